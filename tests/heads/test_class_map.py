"""Which class of the teacher is which of the student, against plain loops."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkd.heads.class_map import ClassMap

NAMES = ('ant', 'bee', 'cat', 'dog', 'eel')


def by_loops(scores, teacher, student, said, softmax):
    """What each of the student's classes gets, one number at a time; 0 without a partner."""
    partner = {name: said.get(name, name) for name in teacher}
    left = 1.0
    if softmax:
        for name, score in zip(teacher, scores, strict=True):
            if partner[name] not in student:
                left -= score
    found = []
    for own in student:
        total = 0.0
        for name, score in zip(teacher, scores, strict=True):
            if partner[name] == own:
                total += score
        found.append(total / left if softmax else min(total, 1.0))
    return found


@st.composite
def maps(draw):
    teacher = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    student = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    keys = draw(st.lists(st.sampled_from(teacher), unique=True))
    return teacher, student, {key: draw(st.sampled_from([*student, None])) for key in keys}


@given(maps(), st.booleans(), st.data())
def test_each_form_against_plain_loops(found, softmax, data):
    teacher, student, said = found
    if all(said.get(name, name) not in student for name in teacher):
        with pytest.raises(ValueError, match='at least one class in common'):
            ClassMap.from_names(teacher, student, said)
        return
    made = ClassMap.from_names(teacher, student, said)
    number = st.floats(0, 1, width=32)
    scores = data.draw(st.lists(number, min_size=len(teacher), max_size=len(teacher)))
    if softmax:  # with a background of at least 0.1
        scores = [score * 0.9 / max(sum(scores), 0.9) for score in scores]
    expected = by_loops(scores, teacher, student, said, softmax)
    got = made.apply(torch.tensor(scores, dtype=torch.float64), softmax)
    assert got.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    pairs = [(t, s) for t in range(len(teacher)) for s in range(len(student)) if made.matrix[t, s]]
    assert pairs == [
        (t, student.index(said.get(name, name)))
        for t, name in enumerate(teacher)
        if said.get(name, name) in student
    ]
    assert made.matched.tolist() == [any(s == i for _, s in pairs) for i in range(len(student))]
    assert made.untaught == [n for n, ok in zip(student, made.matched, strict=True) if not ok]
    assert set(made.unheard) == {n for n in teacher if said.get(n, n) not in student}
    assert made.identity == (teacher == student and all(said.get(n, n) == n for n in teacher))


def test_a_softmax_of_which_all_is_dropped_stays_finite():
    made = ClassMap.from_names(('ant', 'bee'), ('ant', 'cat'))
    scores = torch.tensor([[0.0, 1.0], [1e-8, 1.0]])  # rounded: they add up to more than 1
    assert made.apply(scores, True).tolist() == [[0, 0], [1, 0]]


def test_names_are_compared_letter_by_letter():
    made = ClassMap.from_names(('Red Card', 'ant', 'toothbrush'), ('red_card', 'ant', 'toothbrush'))
    assert made.untaught == ['red_card']
    assert made.spelled() == ", perhaps class_map={'Red Card': 'red_card'}"
    assert ClassMap.from_names(NAMES, NAMES).spelled() == ''


@pytest.mark.parametrize(
    'said, error, message',
    [
        (dict(aunt='ant'), ValueError, r'teacher as keys.*no "aunt".*Nearest: ant'),
        (dict(bee='at'), ValueError, r'student as values.*no "at". Nearest: cat'),
        (dict(ANT='ant'), ValueError, r'no "ANT". Nearest: ant'),
        (dict(zzz='ant'), ValueError, r'no "zzz". It has \(ant, bee\)'),
        ('ant', TypeError, r"class_map must be a dict .*but got 'ant'"),
        ({1: 'ant'}, TypeError, r'but got \{1: '),
        (dict(ant=1), TypeError, r"but got \{'ant': 1\}"),
    ],
)
def test_a_class_map_names_classes(said, error, message):
    with pytest.raises(error, match=message):
        ClassMap.from_names(('ant', 'bee'), ('ant', 'cat'), said)


def test_a_map_without_a_partner_is_refused_with_both_lists():
    message = "teacher's are (RBC, ant), and the student's (rbc, x). Say by class_map=dict(...)"
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        ClassMap.from_names(('RBC', 'ant'), ('rbc', 'x'))
    assert "perhaps class_map={'RBC': 'rbc'}." in str(error.value)
    with pytest.raises(ValueError, match='at least one class in common'):
        ClassMap.from_names(('ant',), ('ant',), dict(ant=None))


def test_other_widths_are_refused():
    with pytest.raises(ValueError, match=r'must have 2 classes in their last axis.*are \(3,\)'):
        ClassMap.from_names(('ant', 'bee'), ('bee',)).apply(torch.zeros(3), True)
