"""Non-maximum suppression in the graph itself, in ONNX's own operators."""

from collections.abc import Mapping
from typing import Any

# Rows to detections. What suppression keeps is written into a table of all pairs of row and class,
# of which the surest K are taken: so each image has K, whatever the others have. Of scores that are
# equal the first row and class goes first, as in mmkd_onnx and in PyTorch.
_TAIL = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
nms (float[batch, P, 4] rows, float[batch, P, C] given_scores{factor_input})
  => (float[batch, K, 6] detections) {{
  low = Constant <value = float {{0.0}}> ()
  high = Constant <value = float[4] {{{width}, {height}, {width}, {height}}}> ()
  none = Constant <value = float {{-1.0}}> ()
  most = Constant <value = int64[1] {{{most}}}> ()
  threshold = Constant <value = float[1] {{{score}}}> ()
  pairs_shape = Constant <value = int64[2] {{0, -1}}> ()
  class_count = Shape <start = 2, end = 3> (given_scores)
  above = Max (rows, low)
  boxes_in = Min (above, high)
  {peaks}
  {only}
  {before}
  {large}
  {ranked}
  pairs = Reshape (ranked_scores, pairs_shape)
  {suppress}
  pair_count = Shape <start = 1, end = 2> (pairs)
  k = Min (most, pair_count)
  best, place = TopK <axis = 1, largest = 1, sorted = 1> (kept, k)
  row = Div (place, class_count)
  label = Mod (place, class_count)
  there = Greater (best, floor)
  last = Constant <value = int64[1] {{-1}}> ()
  row_column = Unsqueeze (row, last)
  box = GatherND <batch_dims = 1> (boxes_in, row_column)
  there_column = Unsqueeze (there, last)
  shown_box = Where (there_column, box, low)
  shown_score = Where (there, best, low)
  label_number = Cast <to = 1> (label)
  shown_label = Where (there, label_number, none)
  score_column = Unsqueeze (shown_score, last)
  label_column = Unsqueeze (shown_label, last)
  detections = Concat <axis = 2> (shown_box, score_column, label_column)
}}
"""
_SUPPRESSED = """
  per_class = Constant <value = int64[1] {{{per_class}}}> ()
  overlap = Constant <value = float[1] {{{iou}}}> ()
  {chosen}
  from_0 = Constant <value = int64[1] {{0}}> ()
  from_1 = Constant <value = int64[1] {{1}}> ()
  from_2 = Constant <value = int64[1] {{2}}> ()
  from_3 = Constant <value = int64[1] {{3}}> ()
  axis = Constant <value = int64[1] {{1}}> ()
  of_image = Slice (chosen, from_0, from_1, axis)
  {of_pair}
  index = Concat <axis = 1> (of_image, of_pair)
  values = GatherND (pairs, index)
  pairs_size = Shape (pairs)
  nothing = ConstantOfShape <value = float[1] {{-1.0}}> (pairs_size)
  kept = ScatterND (nothing, index, values)
"""
# What it gives is image, class and row.
_BY_CLASS = """
  by_class = Transpose <perm = [0, 2, 1]> (ranked_scores)
  chosen = NonMaxSuppression ({compared}, by_class, per_class, overlap, floor)
"""
_PAIR_BY_CLASS = """
  of_class = Slice (chosen, from_1, from_2, axis)
  of_row = Slice (chosen, from_2, from_3, axis)
  before = Mul (of_row, class_count)
  of_pair = Add (before, of_class)
"""
# All pairs are of one class: each box as often as there are classes.
_AGNOSTIC = """
  single = Constant <value = int64[1] {{1}}> ()
  behind_rows = Constant <value = int64[1] {{2}}> ()
  repeats = Concat <axis = 0> (single, single, class_count, single)
  box_of_row = Unsqueeze ({compared}, behind_rows)
  box_of_pair = Tile (box_of_row, repeats)
  boxes_shape = Constant <value = int64[3] {{0, -1, 4}}> ()
  repeated = Reshape (box_of_pair, boxes_shape)
  one_class = Unsqueeze (pairs, single)
  chosen = NonMaxSuppression (repeated, one_class, per_class, overlap, floor)
"""
_PAIR_AGNOSTIC = 'of_pair = Slice (chosen, from_2, from_3, axis)'
# Of a map only the cells that none around exceeds.
_PEAKS = """
  to_map = Constant <value = int64[4] {{0, 0, {height}, {width}}}> ()
  to_rows = Constant <value = int64[3] {{0, 0, -1}}> ()
  given_by_class = Transpose <perm = [0, 2, 1]> (given_scores)
  map = Reshape (given_by_class, to_map)
  around = MaxPool <kernel_shape = [{kernel}, {kernel}], pads = [{pad}, {pad}, {pad}, {pad}]> (map)
  around_rows = Reshape (around, to_rows)
  highest = Transpose <perm = [0, 2, 1]> (around_rows)
  is_peak = Equal (given_scores, highest)
  row_scores = Where (is_peak, given_scores, low)
"""
# Scores as they were before they were multiplied, and again as they are.
_DIVIDED = """
  least_factor = Constant <value = float {{{least}}}> ()
  no_zero = Constant <value = float {{1e-30}}> ()
  divisor = Max (row_factors, no_zero)
  quotient = Div (given_scores, divisor)
  is_enough = GreaterOrEqual (row_factors, least_factor)
  row_scores = Where (is_enough, quotient, none)
"""
_MULTIPLIED = """
  is_over = Greater (large_scores, threshold)
  ranked_scores = Where (is_over, given_scores, none)
  floor = Constant <value = float[1] {{{after}}}> ()
"""
# Of classes that score alike the first.
_ONLY_SUREST = """
  surest = ArgMax <axis = 2, keepdims = 1> (row_scores)
  first_class = Constant <value = int64 {0}> ()
  next_class = Constant <value = int64 {1}> ()
  no_axes = Constant <value = int64[1] {0}> ()
  class_end = Squeeze (class_count, no_axes)
  class_numbers = Range (first_class, class_end, next_class)
  is_surest = Equal (surest, class_numbers)
  own_scores = Where (is_surest, row_scores, none)
"""
# Of a level the pairs that go on.
_LEVEL = """
  first_{n} = Constant <value = int64[1] {{{first}}}> ()
  end_{n} = Constant <value = int64[1] {{{end}}}> ()
  level_{n} = Slice (own_scores, first_{n}, end_{n}, of_rows)
  flat_{n} = Reshape (level_{n}, pairs_shape)
  size_{n} = Shape <start = 1, end = 2> (flat_{n})
  k_{n} = Min (go_on, size_{n})
  top_{n}, at_{n} = TopK <axis = 1, largest = 1, sorted = 1> (flat_{n}, k_{n})
  sides_{n} = Shape (flat_{n})
  empty_{n} = ConstantOfShape <value = float[1] {{-1.0}}> (sides_{n})
  put_{n} = ScatterElements <axis = 1> (empty_{n}, at_{n}, top_{n})
  shape_{n} = Shape (level_{n})
  kept_{n} = Reshape (put_{n}, shape_{n})
"""
#: Rules that ONNX has no operator for, and what a detector with them does.
_NO_FORM = {
    'voting': 'moves boxes by a vote of those that they overlap',
    'whole_rows': 'counts rows, not scores, before it suppresses',
    'instances': 'spares boxes of one proposal',
    'by_level': 'suppresses within a level',
    'fast_nms': 'suppresses by what is suppressed itself, too',
    'offset': 'measures overlaps with sides that are longer by offset=1 pixel of the image',
}
_TOO_OLD = 18  # ReduceMin takes its axes as an input from here on


def _before_nms(rules: Mapping[str, Any]) -> str:
    """Only the surest of each level go on, as in the detector itself."""
    most, levels = rules['before_nms'], rules['levels']
    if most is None:
        return 'sure_scores = Identity (own_scores)'
    text = f"""
  of_rows = Constant <value = int64[1] {{1}}> ()
  go_on = Constant <value = int64[1] {{{most}}}> ()
"""
    first = 0
    for n, rows in enumerate(levels):
        text += _LEVEL.format(n=n, first=first, end=first + rows)
        first += rows
    parts = ', '.join(f'kept_{n}' for n in range(len(levels)))
    return text + f'  sure_scores = Concat <axis = 1> ({parts})'


def _large(rules: Mapping[str, Any], compared: str, old: bool = False) -> str:
    """Boxes without width or height do not count."""
    if rules['min_side'] < 0:
        return 'large_scores = Identity (sure_scores)'
    text = f"""
  of_sides = Constant <value = int64[1] {{2}}> ()
  side_0 = Constant <value = int64[1] {{0}}> ()
  side_2 = Constant <value = int64[1] {{2}}> ()
  side_4 = Constant <value = int64[1] {{4}}> ()
  first_corner = Slice ({compared}, side_0, side_2, of_sides)
  second_corner = Slice ({compared}, side_2, side_4, of_sides)
  sides = Sub (second_corner, first_corner)
  shorter = ReduceMin <keepdims = 1> (sides, of_sides)
  is_large = Greater (shorter, low)
  large_scores = Where (is_large, sure_scores, none)
"""
    if old:
        return text.replace(
            '<keepdims = 1> (sides, of_sides)', '<axes = [2], keepdims = 1> (sides)'
        )
    return text


def check_nms(rules: Mapping[str, Any]) -> None:
    """Check that a file's ``thresholds`` have a form in ONNX.

    Raises:
        ValueError: they have none; the message says which.
    """
    foreign = [why for rule, why in _NO_FORM.items() if rules.get(rule)]
    if (least := rules.get('min_side', -1)) > 0:
        foreign.append(f'leaves out sides up to min_bbox_size={least:g} in pixels of the image')
    if foreign:
        raise ValueError(
            f'with --nms a detector must suppress by the NonMaxSuppression of ONNX alone, but this '
            f'one {foreign[0]}. Export it without --nms: mmkd_onnx does the rest.'
        )


def append_nms(model: Any, rules: Mapping[str, Any]) -> Any:
    """``model`` with one output, ``detections`` (N, K, 6), in place of ``boxes`` and ``scores``.

    A row is x1, y1, x2, y2, score, label, the surest first, filled up with label -1.

    Args:
        model: an ONNX model.
        rules: the file's ``thresholds``.

    Raises:
        ValueError: the rules have no form in ONNX.
    """
    import onnx.compose
    import onnx.parser

    check_nms(rules)
    [opset] = [entry.version for entry in model.opset_import if entry.domain == '']
    height, width = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[2:])
    compared = 'boxes_in' if rules['clip_first'] else 'rows'
    only = 'own_scores = Identity (row_scores)'
    if not rules['multi_label']:
        only = _ONLY_SUREST
    suppress = 'kept = Identity (pairs)'
    if rules['iou'] is not None:
        chosen, of_pair = _BY_CLASS, _PAIR_BY_CLASS
        if rules['class_agnostic']:
            chosen, of_pair = _AGNOSTIC, _PAIR_AGNOSTIC
        suppress = _SUPPRESSED.format(
            iou=rules['iou'],
            per_class=rules['max_per_image'],
            chosen=chosen.format(compared=compared),
            of_pair=of_pair,
        )
    peaks = 'row_scores = Identity (given_scores)'
    if rules.get('peaks'):
        kernel, (high, wide) = rules['peaks']['kernel'], rules['peaks']['size']
        peaks = _PEAKS.format(kernel=kernel, pad=kernel // 2, height=high, width=wide)
    ranked = 'ranked_scores = Identity (large_scores)\n  floor = Identity (threshold)'
    if 'factor' in rules:
        peaks = _DIVIDED.format(least=float(rules['factor']))
        ranked = _MULTIPLIED.format(after=float(rules.get('after', 0)))
    border = rules.get('border', 0)
    text = _TAIL.format(
        ir=model.ir_version,
        opset=opset,
        width=float(width - border),
        height=float(height - border),
        factor_input=', float[batch, P, 1] row_factors' if 'factor' in rules else '',
        most=rules['max_per_image'],
        score=rules['score'],
        peaks=peaks,
        ranked=ranked,
        only=only,
        large=_large(rules, compared, opset < _TOO_OLD),
        before=_before_nms(rules),
        suppress=suppress,
    )
    tail = onnx.parser.parse_model(text)
    tail = onnx.compose.add_prefix(
        tail, 'nms_', rename_inputs=False, rename_outputs=False, rename_edges=True
    )
    for entry in list(model.opset_import):
        if entry.domain != '' and all(e.domain != entry.domain for e in tail.opset_import):
            tail.opset_import.add(domain=entry.domain, version=entry.version)
    inputs = dict(boxes='rows', scores='given_scores', factors='row_factors')
    named = [output.name for output in model.graph.output]
    return onnx.compose.merge_models(model, tail, io_map=[(name, inputs[name]) for name in named])
