"""What an address becomes: a whole, checked file in the cache, or an error and no file."""

import hashlib
import io
import os
import threading
from http.client import HTTPMessage
from types import SimpleNamespace
from urllib.parse import quote
from urllib.request import Request

import pytest
import torch
from mmengine.runner import checkpoint as zoo

from mmkd.checkpoints import download
from mmkd.checkpoints.download import _OnlyToHttps, _Redirect
from mmkd.checkpoints.fetch import hash_in, is_address
from mmkd.checkpoints.reader import find_checkpoint, read_anything
from mmkd.checkpoints.ultralytics import CheckpointError
from tests.site import dripping, redirect, silent, torn, torn_chunks, without_length


def saved(content=None, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content or {'state_dict': {'w': torch.arange(3.0)}}, buffer, **options)
    return buffer.getvalue()


WHOLE = saved()
HASH = hashlib.sha256(WHOLE).hexdigest()


@pytest.fixture
def over():
    event = threading.Event()
    yield event
    event.set()


def files(cache):
    return sorted(path.name for path in cache.rglob('*') if path.is_file())


def weights(address):
    return read_anything(address, 'teacher_ckpt')['state_dict']['w'].tolist()


def test_a_file_is_fetched_once(site, cache):
    site.pages['a.pth'] = WHOLE
    assert weights(f'{site.url}/a.pth') == weights(f'{site.url}/a.pth') == [0, 1, 2]
    assert site.asked == ['a.pth'] and files(cache) == ['a.pth']


def test_files_of_one_name_are_kept_apart(site, cache):
    site.pages |= {'x/best.pt': WHOLE, 'y/best.pt': saved({'state_dict': {'w': torch.ones(1)}})}
    assert weights(f'{site.url}/x/best.pt') == [0, 1, 2]
    assert weights(f'{site.url}/y/best.pt') == [1]
    assert weights(f'{site.url}/x/best.pt') == [0, 1, 2]


def test_what_torch_or_a_person_put_into_the_cache_is_used(site, cache, capsys):
    cache.mkdir(parents=True)
    (cache / 'a.pth').write_bytes(WHOLE)
    (cache / f'b-{HASH[:8]}.pth').write_bytes(WHOLE)
    assert weights(f'{site.url}/a.pth') == weights(f'{site.url}/b-{HASH[:8]}.pth') == [0, 1, 2]
    assert site.asked == []


def test_a_hash_in_the_name(site, cache):
    for name in (f'a-{HASH[:8]}.pth', f'a-{HASH}.pt', f'a-{HASH[:8]}.pth.tar', 'a-20220610.pth'):
        site.pages[name] = WHOLE
        assert weights(f'{site.url}/{name}') == [0, 1, 2]
    assert f'a-{HASH[:8]}.pth' in os.listdir(cache)  # where torch.hub keeps it, too
    site.pages['b-0123abcd.pth'] = WHOLE
    before = files(cache)
    message = rf'promises the SHA-256 0123abcd.* came has {HASH[:8]}'
    with pytest.raises(CheckpointError, match=message):
        weights(f'{site.url}/b-0123abcd.pth')
    assert files(cache) == before


def test_a_cached_file_of_another_hash_is_neither_used_nor_replaced(site, cache):
    cache.mkdir(parents=True)
    name = f'a-{HASH[:8]}.pth'
    site.pages[name] = WHOLE
    (cache / name).write_bytes(b'torn')
    with pytest.raises(CheckpointError, match=r'damaged or another file. Remove it'):
        weights(f'{site.url}/{name}')
    assert (cache / name).read_bytes() == b'torn'


@pytest.mark.parametrize(
    ('name', 'digits'),
    [
        ('yolox_s_8x8_300e_coco_20211121_095711-4592a793.pth', '4592a793'),
        ('vgg13-19584684.pth', '19584684'),
        ('rtmdet-20220610.pth', None),
        ('epoch_12.pth', None),
        ('a-1234567.pth', None),
        ('a-4592a793-b.pth', None),
        ('a-4592a793', None),
        ('a-4592A793.pth', None),
    ],
)
def test_which_names_hold_a_hash(name, digits):
    assert hash_in(name) == digits


@pytest.mark.parametrize(
    ('page', 'message'),
    [
        (torn(WHOLE[:500], len(WHOLE)), rf'torn: 500 of {len(WHOLE)} bytes'),
        (torn(b'', 10**15), 'claims 1000000000.0 MB, and there is room for'),
        (torn_chunks(WHOLE), 'torn after'),
        (without_length(WHOLE[:500]), r'is a zip archive that is damaged or cut short'),
        (without_length(saved(_use_new_zipfile_serialization=False)[:-6]), 'Is the file complete'),
        (b'', 'is empty'),
        (b'<!DOCTYPE html><html>Sign in</html>', 'is an HTML page'),
        (redirect('file:///etc/passwd'), 'redirects to "file:///etc/passwd".*https alone'),
        (redirect('ftp://a/b'), 'redirects to "ftp://a/b"'),
        (redirect('other.pth'), 'redirects to "http://127.*other.pth".*Give the final address'),
        (redirect('//elsewhere/b', 301), 'redirects to "http://elsewhere/b"'),
        (redirect('data:,x', 307), 'redirects to "data:,x"'),
        (redirect('', 308), 'redirects to "http:'),
        (None, 'HTTP 404'),
    ],
)
def test_what_does_not_come_whole_leaves_nothing(page, message, site, cache):
    site.pages |= {'a.pth': page, 'other.pth': WHOLE}
    with pytest.raises(CheckpointError, match=f'teacher_ckpt must.*{site.url}/a.pth.*{message}'):
        weights(f'{site.url}/a.pth')
    assert files(cache) == [] and 'other.pth' not in site.asked
    site.pages['a.pth'] = WHOLE  # and nothing of it is remembered
    assert weights(f'{site.url}/a.pth') == [0, 1, 2]


def test_a_page_without_length_may_be_whole(site, cache):
    site.pages['a.pth'] = without_length(WHOLE)
    assert weights(f'{site.url}/a.pth') == [0, 1, 2]


def test_a_redirect_is_followed_to_https_alone():
    handler = _OnlyToHttps()
    followed = []
    handler.parent = SimpleNamespace(open=lambda req, timeout: followed.append(req.full_url))

    def go(start, to):
        headers = HTTPMessage()
        headers['Location'] = to
        req = Request(start)
        req.timeout = 1
        handler.http_error_302(req, io.BytesIO(), 302, 'Found', headers)

    go('https://github.com/a/v7.0/yolov5s.pt', 'https://objects.githubusercontent.com/b?c=d')
    go('http://a/b.pth', 'https://a/b.pth')
    go('https://a/b.pth', '/c.pth')
    assert followed == [
        'https://objects.githubusercontent.com/b?c=d',
        'https://a/b.pth',
        'https://a/c.pth',
    ]
    for to in ('http://a/b.pth', 'file:///etc/passwd', 'FILE:/etc/passwd', 'javascript:x'):
        with pytest.raises(_Redirect):
            go('https://a/b.pth', to)
    assert len(followed) == 3


def test_a_server_that_says_no_more(site, cache, over, monkeypatch):
    monkeypatch.setattr(download, 'TIMEOUT', 0.2)
    site.pages['a.pth'] = silent(WHOLE[:100], over)
    with pytest.raises(CheckpointError, match=r'torn after 100 bytes: .*timed out'):
        weights(f'{site.url}/a.pth')
    assert files(cache) == []


def test_a_server_that_says_too_little(site, cache, over, monkeypatch):
    monkeypatch.setattr(download, 'RATE_WINDOW', 0.2)
    site.pages['a.pth'] = dripping(over)
    with pytest.raises(CheckpointError, match='stalled after'):
        weights(f'{site.url}/a.pth')


def test_a_file_without_end(site, cache, monkeypatch):
    monkeypatch.setattr(download, 'MAX_BYTES', 100)
    site.pages['a.pth'] = without_length(WHOLE)
    with pytest.raises(CheckpointError, match='is larger than'):
        weights(f'{site.url}/a.pth')
    assert files(cache) == []


def test_no_server(site, cache):
    site.close()
    with pytest.raises(CheckpointError, match='refused'):
        weights(f'{site.url}/a.pth')
    with pytest.raises(CheckpointError, match='could not be'):
        weights('http://[::1')
    with pytest.raises(CheckpointError, match='could not be'):
        weights('http://127.0.0.1:port/a.pth')


def test_a_cache_that_cannot_be_written(site, cache):
    site.pages['a.pth'] = WHOLE
    cache.parent.mkdir(parents=True)
    cache.write_text('a file where the folder should be')
    with pytest.raises(CheckpointError, match='Set TORCH_HOME'):
        weights(f'{site.url}/a.pth')


@pytest.mark.parametrize(
    'path', ['..', 'a/../..', '%2e%2e', '.hidden', 'x' * 300 + '.pth', 'ä b.pth', '%2Fetc%2Fx', '']
)
def test_a_name_stays_in_the_cache(path, site, cache):
    path = quote(path, safe='/%')
    site.pages[path] = WHOLE
    found = find_checkpoint(f'{site.url}/{path}')
    assert found.read_bytes() == WHOLE and cache in found.resolve().parents


def test_processes_wait_for_the_one_that_fetches(site, cache, over):
    def slow(handler):
        over.wait(0.3)
        handler.send_response(200)
        handler.send_header('Content-Length', str(len(WHOLE)))
        handler.end_headers()
        handler.wfile.write(WHOLE)

    site.pages['a.pth'] = slow
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(weights(f'{site.url}/a.pth')))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [[0, 1, 2]] * 3 and site.asked == ['a.pth']
    assert files(cache) == ['a.pth']


# The other addresses of mmengine


@pytest.fixture
def mapped(site, monkeypatch):
    """Names and stores of mmengine that lead to the site's ``a.pth``."""
    names = lambda: {'a': f'{site.url}/a.pth'}  # noqa: E731
    for table in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
        monkeypatch.setattr(zoo, table, names)
    store = SimpleNamespace(get=lambda address: memoryview(site.pages['a.pth']))
    monkeypatch.setattr(zoo, 'get_file_backend', lambda address, backend_args: store)
    return (
        f'{site.url}/a.pth',
        *(f'{scheme}://a' for scheme in ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab')),
        'mmcls://a',
        's3://a/b.pth',
        'petrel://a/b.pth',
        'open-mmlab:s3://a/b.pth',
    )


def test_each_kind_of_address(site, cache, mapped):
    site.pages['a.pth'] = WHOLE
    assert all(is_address(address) for address in mapped)
    assert [weights(address) for address in mapped] == [[0, 1, 2]] * len(mapped)
    assert site.asked == ['a.pth']  # one file under several names
    stored = saved({'state_dict': {'w': torch.ones(1)}})
    site.pages['a.pth'] = stored  # a store is asked each time: its files change
    assert weights('s3://a/b.pth') == [1]


def test_a_file_of_mmengines_home(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, 'get_external_models', lambda: {'a': 'b/a.pth'})
    with pytest.raises(FileNotFoundError, match=r'stands for the file .*mmengine/b/a.pth'):
        weights('open-mmlab://a')
    (tmp_path / 'mmengine/b').mkdir(parents=True)
    (tmp_path / 'mmengine/b/a.pth').write_bytes(WHOLE)
    assert weights('open-mmlab://a') == [0, 1, 2]


@pytest.mark.parametrize(
    ('address', 'message'),
    [
        ('file:///etc/passwd', 'Give the path itself'),
        ('FILE:///etc/passwd', 'Give the path itself'),
        ('file:/etc/passwd', 'Give the path itself'),
        ('ftp://a/b', 'path or an address of http'),
        ('gopher://a\x1bX/b', r'got "gopher://a\\x1bX/b"'),
        ('open-mmlab://resnet5', 'Near it are resn'),
        ('mmcls://nothing-like-it', 'Give a path or a URL'),
        ('s3://a/b.pth', 'petrel'),
        ('pavi://a', 'pavi'),
    ],
)
def test_addresses_that_lead_nowhere(address, message, cache):
    with pytest.raises(CheckpointError, match=f'(?s)teacher_ckpt must.*{message}'):
        weights(address)
