"""What a pair's ``teacher`` may be."""

import pytest

from mmkd.algorithms.build_teacher import build_given
from mmkd.teachers.teacher_list import TeacherEntry, read_teachers


def test_one_teacher_and_several():
    [plain] = read_teachers('a.py', 'a.pth', False, dict(a='b'))
    [listed] = read_teachers(
        [dict(model='a.py', ckpt='a.pth', ckpt_strict=False, name='big')], class_map=dict(a='b')
    )
    assert plain == listed and plain.name == 'teacher'
    first, second = read_teachers(
        [dict(model='a.py', classes=['x']), dict(model='b.py', classes=('y',), class_map={})],
        class_map=dict(a='b'),
    )
    assert (first.name, second.name) == ('teacher1', 'teacher2')
    assert first.class_map is None and second.class_map == {}  # of the pair's, each by its names
    assert first.classes == ('x',) and second.weight == second.scale == 1


@pytest.mark.parametrize(
    'teacher, message',
    [
        ([], 'at least one, but got none'),
        (['a.py'], r"teacher\[0\] must be .* got str\. Write dict\(model='a.py'\)"),
        ([dict(results='a')], r"got results\. Write dict\(model=\{'results': 'a'\}\)"),
        ([dict(ckpt='a.pth')], r"got ckpt\. Write dict\(model='teacher.py', ckpt="),
        ([dict(model='a', wieght=1)], 'but got "wieght". Nearest: weight'),
        ([dict(model='a', weight=0)], 'weight must be a number above 0, but got 0'),
        ([dict(model='a', scale=True)], 'scale must be a number above 0, but got True'),
        ([dict(model='a', name='loss_a')], r"name must be a word .*but got 'loss_a'"),
        ([dict(model='a', name='a b')], r"name must be a word .*but got 'a b'"),
        ([dict(model='a', classes='car')], r"classes must be a list .*but got 'car'"),
        ([dict(model='a', classes=[])], r'classes must be a list .*but got \[\]'),
        ([dict(model='a', name='x')] * 2, 'different names, but got x twice'),
        ([dict(model='a', classes=['x']), dict(model='b')], 'or none, but only teacher1 does'),
    ],
)
def test_what_is_no_teacher_is_refused(teacher, message):
    with pytest.raises((TypeError, ValueError), match=message):
        read_teachers(teacher)


def test_a_list_has_its_checkpoints_in_its_entries():
    with pytest.raises(ValueError, match='teacher_ckpt is that of a single teacher'):
        read_teachers([dict(model='a')], 'a.pth')


@pytest.mark.parametrize('class_map', [['a'], 'a', dict(a=1), {1: 'a'}])
def test_a_class_map_is_a_dict_of_names(class_map):
    """Whatever the teachers are, and before any is built."""
    match = r"class_map must be a dict from names of the teacher's classes"
    for teacher, of_pair in (
        ('a.py', class_map),
        ([dict(model='a.py'), dict(model='b.py')], class_map),
        ([dict(model='a.py', class_map=class_map)], None),
    ):
        with pytest.raises(TypeError, match=match):
            read_teachers(teacher, class_map=of_pair)
    entry = TeacherEntry(dict(function=print, classes=['x'], class_map=class_map))
    with pytest.raises(TypeError, match=match):
        build_given(entry, 1)
