"""Files of detections: which are read, which are refused, and what of them serves."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkd.checkpoints.fetch import sha256_of
from mmkd.config.given_teacher import is_given, is_results
from mmkd.detections.feed import give_detections
from mmkd.detections.fitted import fit_results
from mmkd.detections.places import Places
from mmkd.detections.results_file import read_results
from mmkd.heads.class_map import ClassMap
from tests.detections.test_following import LOAD, PACK, build, folder  # noqa: F401

CLASSES = ('a', 'b', 'c')
CATEGORIES = {1: 'a', 2: 'b', 5: 'c'}
INFOS = [
    dict(img_id=7, img_path='data/x/one.jpg', width=100, height=80),
    dict(img_id=8, img_path='data/x/two.jpg', width=100, height=80),
    dict(img_id=9, img_path='data/y/two.jpg', width=100, height=80),
]


def row(**changes):
    return dict(dict(image_id=7, category_id=2, bbox=[10, 20, 30, 40], score=0.5), **changes)


def written(tmp_path, *rows, **told):
    path = tmp_path / 'teacher.json'
    path.write_text(json.dumps({'results': list(rows), **told} if told else list(rows)))
    return path


def fit(tmp_path, *rows, class_map=None, infos=INFOS, categories=CATEGORIES, **told):
    results = read_results(written(tmp_path, *rows, **told))
    [found], tally = fit_results(results, [infos], CLASSES, categories, class_map)
    return found, tally


def test_content_decides_what_a_file_is(tmp_path):
    for text, results in (
        ('[]', True),
        (' \n[{"image_id": 1}]', True),
        ('\ufeff[]', True),
        ('{"results": []}', True),
        ('{"model": {"type": "FCOS"}}', False),
        ('{"model": {}, "results": []}', False),
        ('{"results": [', False),
        ('3', False),
        ('', False),
    ):
        for name in ('teacher.json', 'teacher', 'teacher.bbox.txt'):
            path = tmp_path / name
            path.write_text(text, encoding='utf-8')
            assert is_results(path) is results, text
            assert is_given(str(path)) is results
    (tmp_path / 'teacher.py').write_text('[]')
    assert not is_results(tmp_path / 'teacher.py') and not is_results(tmp_path)
    assert not is_results(tmp_path / 'none.json') and not is_results('mmdet::fcos.py')
    assert not is_given('teacher.py') and not is_given(dict(type='FCOS', results=1))
    assert is_given('model.onnx') and is_given(dict(function='a.b'))


def test_results_of_coco_serve_as_they_are(tmp_path):
    found, tally = fit(tmp_path, row(), row(image_id=9.0, category_id=5, score=1), row(image_id=7))
    boxes, scores = found.of(dict(img_id=7))
    assert boxes.tolist() == [[10, 20, 40, 60]] * 2 and scores.tolist() == [[0, 0.5, 0]] * 2
    assert found.of(dict(img_id=9))[1].tolist() == [[0, 0, 1]]
    assert [part.shape for part in found.of(dict(img_id=8))] == [(0, 4), (0, 3)]
    assert not tally.left_out and (tally.images, tally.with_detections) == (3, 2)
    assert tally.notes('t')[0] == 'model.teacher: "t" has detections in 2 of 3 training images'


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(score=1.01), r'score must be from 0 to 1.* 1 does not: 1.01 \(result 1\)'),
        (dict(score=-0.1), 'Give probabilities'),
        (dict(score='0.5'), r'and a score.*score="0.5"'),
        (dict(score=None), r'Results have no score where they are annotations'),
        (dict(score=True), 'and a score'),
        (dict(bbox=[1, 2, 3]), r'a bbox of four finite numbers.*bbox=\[1, 2, 3\]'),
        (dict(bbox=[1, 2, 3, float('nan')]), 'four finite numbers'),
        (dict(bbox=[1, 2, 3, 'x']), 'four finite numbers'),
        (dict(bbox=[1, 2, 3, 10**400]), 'four finite numbers'),  # as a float it overflows
        (dict(bbox=[1, 2, 3, -1e300]), 'four finite numbers'),
        (dict(score=10**400), 'and a score'),
        (dict(image_id=None), 'must have image_id'),
        (dict(image_id=1.5), 'must have image_id'),
        (dict(category_id=[1]), 'category_id'),
        (dict(file_name=3), 'must be text'),
    ],
)
def test_a_result_that_breaks_a_rule_is_refused_by_its_number(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        read_results(written(tmp_path, row(), row(**changes)))


def test_what_rounding_does_to_scores_is_no_fault(tmp_path):
    told = dict(classes=['a'])
    rows = [row(score=score, distribution=[score]) for score in (1.0000005, -1e-7, 0.5)]
    found = read_results(written(tmp_path, *rows, **told))
    assert found.scores.tolist() == found.distributions[:, 0].tolist() == [1, 0, 0.5]


@pytest.mark.parametrize(
    'images',
    [dict(id=1), [3], [dict(file_name='a.jpg')], [dict(id=[1])], [dict(id=1, file_name=3)]],
)
def test_images_of_another_form_are_refused(tmp_path, images):
    with pytest.raises(ValueError, match='images must be a list of objects with an id'):
        read_results(written(tmp_path, row(), images=images))
    twice = [dict(id=1, file_name='a.jpg'), dict(id=1, file_name='b.jpg')]
    with pytest.raises(ValueError, match=r'id of its own, .* 1 does not: 1 \(a\.jpg, b\.jpg\)'):
        read_results(written(tmp_path, row(), images=twice))
    assert read_results(written(tmp_path, row(), images=[twice[0]] * 2)).images
    found = read_results(written(tmp_path, row(), images=[dict(id='x'), dict(id=1, file_name='a')]))
    assert len(found.images) == 2


def test_a_missing_key_is_named(tmp_path):
    annotation = row()
    del annotation['score']
    with pytest.raises(ValueError, match='no score'):
        read_results(written(tmp_path, annotation))


@pytest.mark.parametrize(
    ('text', 'match'),
    [
        ('[1, 2]', r"COCO's results.*a list with 1"),
        ('{"results": 3}', 'an object with results'),
        ('[{', 'cannot be read'),
    ],
)
def test_what_is_no_list_of_results_is_refused(tmp_path, text, match):
    (tmp_path / 'teacher.json').write_text(text)
    with pytest.raises(ValueError, match=match):
        read_results(tmp_path / 'teacher.json')


def test_a_missing_file_is_refused(tmp_path):
    written(tmp_path, row())
    with pytest.raises(FileNotFoundError, match=r'mmkd label.*teacher\.json'):
        read_results(tmp_path / 'teacher.jsn')


def test_what_does_not_serve_is_left_out_with_a_count(tmp_path):
    found, tally = fit(
        tmp_path,
        row(),
        row(bbox=[-10, -20, 30, 40]),  # clipped
        row(bbox=[-0.5, 0, 30, 40]),  # rounding
        row(bbox=[200, 20, 30, 40]),  # outside
        row(bbox=[20, 20, 0, 40]),  # empty
        row(bbox=[20, 20, -5, 40]),
        row(image_id=70),  # of another image
        row(category_id=3),  # of another class
    )
    boxes, _ = found.of(dict(img_id=7))
    assert boxes.tolist() == [[10, 20, 40, 60], [0, 0, 20, 20], [0, 0, 29.5, 40]]
    assert dict(tally.left_out) == {
        'boxes without a pixel in the image left out': 3,
        'boxes clipped to the image': 1,
        'detections of other images left out': 1,
        'detections of classes that the student does not have left out': 1,
    }
    assert '1 detections of other images left out' in tally.notes('t')[1]


def test_what_fits_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'none is: it has "7", and the data set 7, 8, 9'):
        fit(tmp_path, row(image_id='7'))
    with pytest.raises(ValueError, match=r'file_name .* none is: it has three\.jpg, .* one\.jpg'):
        fit(tmp_path, row(file_name='three.jpg'))
    with pytest.raises(ValueError, match=r'\(category_id 4\), .*student.s \(a, b, c\).*category_n'):
        fit(tmp_path, row(category_id=4))
    with pytest.raises(ValueError, match=r'teacher.s are \(cat\), .* Say by class_map'):
        fit(tmp_path, row(category_name='cat'))
    with pytest.raises(ValueError, match='must have some'):
        fit(tmp_path)
    parts = [0.1, 0.25, 0.3, 0.5]  # of the sides of the image
    with pytest.raises(
        ValueError, match='some must be left, but there are 2 boxes without a pixel'
    ):
        fit(tmp_path, row(bbox=parts), row(bbox=parts, image_id=8))
    other = row(category_name='cat')
    with pytest.raises(ValueError, match=r'are 1 detections of classes.*name by class_map'):
        fit(tmp_path, other, classes=['cat', *CLASSES])


def test_names_go_before_ids(tmp_path):
    found, _ = fit(tmp_path, row(image_id=7, file_name='x/two.jpg', category_name='c'))
    assert found.of(dict(img_id=8))[1].tolist() == [[0, 0, 0.5]] and not len(found.of(INFOS[0])[0])
    found, _ = fit(tmp_path, row(image_id=9, file_name='two.jpg'))  # two are named so
    assert len(found.of(INFOS[2])[0])
    images = [dict(id=1, file_name='y/two.jpg')]
    found, tally = fit(tmp_path, row(image_id=1), images=images)
    assert len(found.of(INFOS[2])[0]) and tally.not_looked_at == 2
    assert '2 were not looked at' in tally.notes('t')[0]


def test_classes_are_mapped_by_name(tmp_path):
    beside = dict(category_name='truck', bbox=[60, 20, 30, 40])
    rows = [row(category_name='car'), row(**beside), row(category_name='sky')]
    found, tally = fit(tmp_path, *rows, class_map=dict(car='a', truck='a'))
    assert found.of(INFOS[0])[1].tolist() == [[0.5, 0, 0]] * 2
    assert tally.left_out['detections of classes that the student does not have left out'] == 1


def test_a_class_map_names_classes_of_both(tmp_path):
    """What a file that tells no classes has not found it may still know."""
    rows = [row(category_name='car')]
    found, tally = fit(tmp_path, *rows, class_map=dict(car='a', truck='b', van=None))
    assert len(found.of(INFOS[0])[0]) == 1
    assert 'class_map names truck, van, but no detection' in tally.notes('t')[1]
    _, tally = fit(tmp_path, *rows, class_map=dict(car='a', truck='b'), classes=['car', 'truck'])
    assert len(tally.notes('t')) == 1
    with pytest.raises(ValueError, match=r'keys, but the teacher has no "truk"\. Nearest: truck'):
        fit(tmp_path, *rows, class_map=dict(car='a', truk='b'), classes=['car', 'truck'])
    for lost in (dict(car='aa'), dict(car='a', van='aa')):  # though no van was found
        with pytest.raises(ValueError, match=r'values, but the student has no "aa"\. Nearest: a'):
            fit(tmp_path, *rows, class_map=lost)


def test_of_a_distribution_the_classes_that_are_one_add_up(tmp_path):
    rows = [
        row(category_name='car', distribution=[0.4, 0.3, 0.2]),
        row(category_name='b', score=0.7),
        row(category_name='car', distribution=[0.8, 0.7, 0]),
    ]
    told = dict(classes=['car', 'truck', 'b'], images=[])
    found, _ = fit(tmp_path, *rows, class_map=dict(car='a', truck='a'), **told)
    wanted = torch.tensor([[0.7, 0.2, 0], [0, 0.7, 0], [1, 0, 0]])
    torch.testing.assert_close(found.of(INFOS[0])[1], wanted)
    with pytest.raises(ValueError, match=r'for each of classes \(2\)'):
        fit(tmp_path, *rows, classes=['car', 'truck'])
    with pytest.raises(ValueError, match=r'for each of classes \(0\)'):
        fit(tmp_path, *rows)
    with pytest.raises(ValueError, match='a list of different names'):
        fit(tmp_path, *rows, classes=['car', 'car', 'b'])


def test_images_that_changed_since_are_refused(tmp_path):
    (tmp_path / 'one.jpg').write_bytes(b'new')
    infos = [{**INFOS[0], 'img_path': str(tmp_path / 'one.jpg')}]
    same = dict(id=7, file_name='one.jpg', width=100, height=80)
    for other in ({}, dict(width=100.0), dict(width='100', height=None)):  # of other programs
        fit(tmp_path, row(), infos=infos, images=[{**same, **other}])
    for change in (dict(width=99), dict(sha256='0' * 64)):
        with pytest.raises(ValueError, match=r'one\.jpg changed since'):
            fit(tmp_path, row(), infos=infos, images=[{**same, **change}])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([7, 8, 9, 10]),
            st.sampled_from([1, 2, 5, 6]),
            st.lists(st.floats(-200, 200), min_size=4, max_size=4),
            st.floats(0, 1),
        )
    )
)
def test_each_detection_serves_or_is_counted(tmp_path_factory, rows):
    """Against plain loops."""
    made = [row(image_id=i, category_id=c, bbox=b, score=s) for i, c, b, s in rows]
    made.append(row())
    found, tally = fit(tmp_path_factory.mktemp('t'), *made)
    counts = dict.fromkeys(('images', 'pixel', 'classes', 'used'), 0)
    for one in made:
        x, y, w, h = one['bbox']
        x1, y1, x2, y2 = (np.float32(v) for v in (x, y, x + w, y + h))
        seen = min(x2, 100) - max(x1, 0) >= 1 and min(y2, 80) - max(y1, 0) >= 1
        if one['image_id'] == 10:
            counts['images'] += 1
        elif not seen:
            counts['pixel'] += 1
        elif one['category_id'] == 6:
            counts['classes'] += 1
        else:
            counts['used'] += 1
    assert sum(len(found.of(info)[0]) for info in INFOS) == counts.pop('used')
    for what, count in counts.items():
        assert (
            sum(n for told, n in tally.left_out.items() if what in told and 'left out' in told)
            == count
        )
    for info in INFOS:
        boxes, scores = found.of(info)
        assert (boxes >= 0).all() and (boxes[:, 2] <= 100).all() and (boxes[:, 3] <= 80).all()
        assert ((scores > 0).sum(1) <= 1).all()


def test_joined_data_sets_share_a_file(folder, tmp_path):  # noqa: F811
    """Each has its own images; a file that serves one of them serves."""
    one = build(folder, [*LOAD, PACK])
    content = json.loads((folder / 'annotations/train.json').read_text())
    for image in content['images']:
        image['id'] += 100
    for annotation in content['annotations']:
        annotation['image_id'] += 100
    (folder / 'shifted.json').write_text(json.dumps(content))
    other = build(folder, [*LOAD, PACK], 'shifted.json')

    class Joined:
        def __init__(self):
            self.datasets = [one, other]

    tally = give_detections(Joined(), read_results(folder / 'teacher.json'))
    assert (tally.images, tally.with_detections) == (12, 6) and not tally.left_out


MORE = [
    dict(img_id='unlabelled/a.jpg', img_path='more/a.jpg', listed_id=100, unlabelled=True),
    dict(img_id='unlabelled/b.jpg', img_path='more/b.jpg', listed_id=7, unlabelled=True),
]


def fit_both(tmp_path, *rows, infos=INFOS, more=MORE, **told):
    results = read_results(written(tmp_path, *rows, **told))
    return fit_results(results, [infos, more], CLASSES, CATEGORIES)


def test_ids_of_a_coco_file_without_annotations_are_found(tmp_path):
    (first, second), tally = fit_both(tmp_path, row(image_id=100), row(image_id=8))
    assert len(second.of(MORE[0])[0]) == 1 and len(first.of(INFOS[1])[0]) == 1
    assert not tally.left_out


def test_an_id_of_text_may_be_the_name_of_a_file(tmp_path):
    for name in ('one', 'one.jpg'):
        found, tally = fit(tmp_path, row(image_id=name), row(image_id='none'))
        assert len(found.of(INFOS[0])[0]) == 1 and tally.other_images == 1
    with pytest.raises(ValueError, match=r"'two' of .* that of data/x/two\.jpg, data/y/two\.jpg"):
        fit(tmp_path, row(image_id='two'))
    own = [{**INFOS[0], 'img_id': 'two'}, INFOS[1]]  # where it is an id, it is that
    found, _ = fit(tmp_path, row(image_id='two'), infos=own)
    assert len(found.of(own[0])[0]) == 1 and not len(found.of(own[1])[0])


def test_an_annotated_image_that_is_unlabelled_too_is_found_by_its_id(tmp_path):
    """A list of results has but its id, and the folder that names it again has none."""
    again = [
        dict(img_id='unlabelled/one.jpg', img_path='./data/x/one.jpg', unlabelled=True),
        MORE[0],
    ]
    (first, second), tally = fit_both(tmp_path, row(), row(image_id=8), more=again)
    assert len(first.of(INFOS[0])[0]) == len(second.of(again[0])[0]) == 1
    assert not second.unseen(again[0]) and tally.unlabelled_not_looked_at == 1


def test_an_id_of_two_images_is_refused_unless_the_name_tells_which(tmp_path):
    with pytest.raises(ValueError, match=r'image_id .* 7 of .* data/x/one\.jpg, more/b\.jpg.*name'):
        fit_both(tmp_path, row(image_id=7))
    (first, second), _ = fit_both(tmp_path, row(image_id=7, file_name='b.jpg'))
    assert not len(first.of(INFOS[0])[0]) and len(second.of(MORE[1])[0]) == 1
    images = [dict(id=7, file_name='one.jpg')]
    (first, second), _ = fit_both(tmp_path, row(image_id=7), images=images)
    assert len(first.of(INFOS[0])[0]) == 1 and not len(second.of(MORE[1])[0])


def test_one_image_in_two_data_sets_gets_its_detections_in_both(tmp_path):
    (first, second), _ = fit_both(tmp_path, row(), more=INFOS)
    assert len(first.of(INFOS[0])[0]) == len(second.of(INFOS[0])[0]) == 1


def two_folders(tmp_path):
    """Of equal names: one annotated image, and one that is not, of other content and size."""
    infos = []
    for name, size in (('train', (20, 30)), ('extra', (40, 50))):
        (tmp_path / name).mkdir(exist_ok=True)
        path = tmp_path / name / '0.png'
        cv2.imwrite(str(path), np.full((*size, 3), size[0], np.uint8))
        infos.append(dict(img_id=1, img_path=str(path), height=size[0], width=size[1]))
    infos[1] = dict(img_id='unlabelled/0.png', img_path=infos[1]['img_path'], unlabelled=True)
    return infos


def labelled(infos, names):
    return [
        dict(id=i, file_name=name, sha256=sha256_of(Path(infos[i]['img_path'])))
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    'names',
    [
        ('train/0.png', 'extra/0.png'),  # seen from above both
        ('data/train/0.png', 'data/extra/0.png'),  # and moved since
        ('0.png', '0.png'),  # their content tells
    ],
)
def test_equal_names_in_two_folders_are_told_apart(tmp_path, names):
    infos = two_folders(tmp_path)
    images = labelled(infos, names)
    rows = [row(image_id=i, bbox=[1, 1, 9 + i, 9]) for i in (0, 1)]
    found, tally = fit_both(tmp_path, *rows, infos=infos[:1], more=infos[1:], images=images)
    assert [float(one.of(info)[0][0, 2]) for one, info in zip(found, infos, strict=True)] == [
        10,
        11,
    ]
    assert not tally.left_out
    # Of one data set alone the other's are of other images, not changed ones.
    found, tally = fit(tmp_path, *rows, infos=infos[:1], images=images)
    assert len(found.of(infos[0])[0]) == 1
    assert tally.left_out == {'detections of other images left out': 1}


FOLDERS = st.lists(st.sampled_from('pqr'), max_size=3)


@given(st.lists(FOLDERS, min_size=1, max_size=6, unique_by=tuple), FOLDERS.filter(bool), FOLDERS)
def test_a_name_finds_the_images_whose_folders_are_called_alike(own, told, other):
    """By an oracle in plain loops: see the table of docs/any_teacher.md."""
    infos = [dict(img_id=i, img_path='/'.join(['', *f, '0.png'])) for i, f in enumerate(own)]
    names = ['/'.join([*folders, '0.png']) for folders in (told, other)]
    results = SimpleNamespace(file_names=names, images=None, path='t.json')

    def alike(folders, path):
        count = 0
        while count < min(len(folders), len(path)) and folders[-1 - count] == path[-1 - count]:
            count += 1
        return count

    most = [
        max(n for n in range(len(p) + 1) if any(_ends(f, p[len(p) - n :]) for f in (told, other)))
        for p in own
    ]
    fits = [i for i, p in enumerate(own) if alike(told, p) >= most[i]]
    wanted = [i for i in fits if alike(told, own[i]) == max(alike(told, own[k]) for k in fits)]
    places = Places(infos, results)
    if len(wanted) > 1:
        with pytest.raises(ValueError, match='a file_name must be that of one training image'):
            places.of(-1, names[0])
    else:
        assert places.of(-1, names[0]) == wanted


def _ends(folders, tail):
    return any(folders[n:] == tail for n in range(len(folders) + 1))


def test_a_list_goes_by_folders_and_ids_and_else_is_refused(tmp_path):
    infos = two_folders(tmp_path)
    names = [row(image_id=90 + i, file_name=f'{f}/0.png') for i, f in enumerate(('train', 'extra'))]
    found, _ = fit_both(
        tmp_path, names[1], row(file_name='train/1.png'), infos=infos[:1], more=infos[1:]
    )
    assert [len(one.of(info)[0]) for one, info in zip(found, infos, strict=True)] == [0, 1]
    other = [{**infos[0], 'img_id': 2, 'img_path': str(tmp_path / 'train/1.png')}]
    with pytest.raises(ValueError, match='none is'):  # extra is no other name of train
        fit(tmp_path, names[1], row(file_name='train/5.png'), infos=[*infos[:1], *other])
    found, _ = fit(tmp_path, row(file_name='moved/0.png', bbox=[1, 1, 9, 9]), infos=infos[:1])
    assert len(found.of(infos[0])[0]) == 1
    with pytest.raises(ValueError, match=r'"0\.png" of .*train/0\.png, .*extra/0\.png\. Write it'):
        fit_both(tmp_path, row(file_name='0.png'), infos=infos[:1], more=infos[1:])


def test_boxes_beyond_images_without_annotations_are_clipped_and_counted(tmp_path):
    """Their size is told by the COCO file, by the file of detections, or by the image."""
    infos = two_folders(tmp_path)
    rows = [row(image_id=1, bbox=[40, 10, 300, 300]), row(image_id=1, bbox=[60, 0, 9, 9])]
    sizes = dict(width=50, height=40)
    for more, image in (
        ({**infos[1], **sizes}, {}),
        ({**infos[1], 'img_path': 'gone/extra/0.png'}, sizes),
        (infos[1], {}),
    ):
        images = [dict(id=1, file_name='extra/0.png', **image)]
        (_, found), tally = fit_both(tmp_path, *rows, infos=infos[:1], more=[more], images=images)
        assert found.of(more)[0].tolist() == [[40, 10, 50, 40]]
        assert tally.left_out['boxes clipped to the image'] == 1
        assert tally.left_out['boxes without a pixel in the image left out'] == 1


def test_images_that_were_not_looked_at_are_known(tmp_path):
    images = [dict(id=7, file_name='one.jpg'), dict(id=100, file_name='a.jpg')]
    (first, second), tally = fit_both(tmp_path, row(), images=images)
    assert [bool(first.unseen(info)) for info in INFOS] == [False, True, True]
    assert [bool(second.unseen(info)) for info in MORE] == [False, True]
    assert (tally.not_looked_at, tally.unlabelled, tally.unlabelled_not_looked_at) == (2, 2, 1)
    assert '3 were not looked at' in tally.notes('t')[0] and len(tally.notes('t')) == 1
    match = '1 of 2 images without annotations and 2 of the 3 others .* Label these images, too'
    assert re.search(match, tally.warning('t'))
    # Where it has found something it has looked, though another program does not list it.
    (first, _), _ = fit_both(tmp_path, row(image_id=8), images=[])
    assert [bool(first.unseen(info)) for info in INFOS] == [True, False, True]
    # A list does not say at what it looked: what is annotated it did, of others where it found.
    (first, second), tally = fit_both(tmp_path, row(image_id=8), row(image_id=100))
    assert not any(first.unseen(info) for info in INFOS)
    assert [bool(second.unseen(info)) for info in MORE] == [False, True]


def test_a_softmax_without_a_partner_is_renormalised_as_of_a_live_teacher(tmp_path):
    told = dict(classes=['car', 'sky'], images=[])
    rows = [
        row(category_name='sky', bbox=[60, 20, 30, 40], score=0.6, distribution=[0.3, 0.6]),
        row(category_name='car', score=0.45, distribution=[0.45, 0.44]),
        row(category_name='sky', score=1.0, distribution=[0.0, 1.0]),
    ]
    found, tally = fit(tmp_path, *rows, class_map=dict(car='a'), softmax=True, **told)
    live = ClassMap.from_names(told['classes'], CLASSES, dict(car='a'))
    wanted = live.apply(torch.tensor([[0.3, 0.6], [0.45, 0.44]]), softmax=True)
    torch.testing.assert_close(found.of(INFOS[0])[1], wanted)
    torch.testing.assert_close(wanted[:, 0], torch.tensor([0.75, 0.45 / 0.56]))
    assert tally.left_out['detections of classes that the student does not have left out'] == 1
    for sigmoid in ({}, dict(softmax=False)):  # files of before do not say
        found, _ = fit(tmp_path, *rows, class_map=dict(car='a'), **sigmoid, **told)
        # The columns of sky alone are left out: what may be a car is no background.
        wanted = torch.tensor([[0.3, 0, 0], [0.45, 0, 0]])
        torch.testing.assert_close(found.of(INFOS[0])[1], wanted)
