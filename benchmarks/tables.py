"""Tables of docs/performance.md from a log that run.py kept.

    python benchmarks/run.py --log docs/logs/performance.txt
    python benchmarks/tables.py docs/logs/performance.txt docs/performance.md

A page has a place for each pair's table between ``<!-- ssd in performance.txt -->`` and
``<!-- end -->``, named by the pair and the log. What stands there is written anew; a pair that the
log lacks, and all other text, stays.
"""

import re
import sys
from pathlib import Path

#: How a log names a pair.
PAIRS = {
    'ssd': ('ssd_kd_vgg_to_mbv2', 'SSD300-VGG16 to MobileNetV2'),
    'yolov5': ('yolov5_kd_m_to_s', 'YOLOv5m to YOLOv5s'),
}
_ROW = re.compile(r'^(\S.*?) +([\d.]+|-) +(-?[\d.]+)(?:  (met|missed)?)?$', re.M)
_PLACE = r'(<!-- {} in {} -->\n).*?(<!-- end -->)'


def table(log: str, pair: str) -> str:
    """Markdown of the rows of a pair; '' where the log has none."""
    key, title = PAIRS[pair]
    parts = re.split(r'^(?=(?:ssd|yolov5)_kd_\w+, \d+ images)', log, flags=re.M)
    found = [part for part in parts if part.startswith(key)]
    if not found:
        return ''
    batch = found[0].split(':')[0].split(', ')[1]
    lines = [f'| {title}, {batch} | target | found | |', '| --- | --- | --- | --- |']
    for what, target, figure, verdict in _ROW.findall(found[0]):
        shown = {'missed': '**missed**'}.get(verdict, verdict)
        lines.append(f'| {what} | {"" if target == "-" else target} | {figure} | {shown} |')
    return '\n'.join(lines) + '\n'


def fill(page: str, log: str, name: str) -> str:
    """The page with the tables of the log ``name``."""
    for pair in PAIRS:
        rows = table(log, pair)
        if rows:
            place = _PLACE.format(pair, re.escape(name))
            page = re.sub(place, lambda m, new=rows: f'{m[1]}\n{new}\n{m[2]}', page, flags=re.S)
    return page


if __name__ == '__main__':
    log, page = map(Path, sys.argv[1:])
    page.write_text(fill(page.read_text(), log.read_text(), log.name))
