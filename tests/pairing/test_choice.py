"""The method that is chosen for two detectors of different kinds."""

from pathlib import Path

from mmkd.algorithms.build_detector import build_detector
from mmkd.pairing.pair_text import Request
from mmkd.pairing.write_pair import choose_method
from tests.heads.models import small
from tests.tiny import ROOT


def test_a_two_stage_teacher_of_other_levels_teaches_a_dense_student(mmdet_scope):
    teacher = small('faster_rcnn/faster-rcnn_r50_fpn_1x_coco')
    student = small('retinanet/retinanet_r50_fpn_1x_coco')
    request = Request('teacher.py', 'student.py', Path('pair.py'), ROOT / 'configs')
    models = map(build_detector, (student, teacher))
    method, _ = choose_method(request, *models)
    assert method.name in ('pkd', 'prediction_rows', 'soft_ground_truth')
