"""The student that a run exports is an ordinary checkpoint of mmdet with a config of its own."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict

from mmkd.export.export_student import export_student
from mmkd.export.student_config import student_config
from tests.tiny import tiny_pair, tiny_ssd

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def pair(**changes):
    return MODELS.build(ConfigDict(tiny_pair(**changes)))


def test_export_is_what_mmdet_loads(tmp_path):
    config = Config(dict(model=tiny_pair(), default_scope='mmdet', load_from='x.pth'))
    model = pair()
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=1)), tmp_path / 'kd.pth')
    out = export_student(str(tmp_path / 'kd.pth'), config, tmp_path / 'student.pth')
    own = Config.fromfile(out.with_suffix('.py'))
    assert own.model.type == 'SingleStageDetector' and 'load_from' not in own
    plain = MODELS.build(own.model)
    plain.load_state_dict(torch.load(out)['state_dict'], strict=True)
    assert torch.equal(plain.backbone.conv1.weight, model.student.backbone.conv1.weight)
    with pytest.raises(FileExistsError, match='must not replace'):
        export_student(str(tmp_path / 'kd.pth'), config, out)
    with pytest.raises(ValueError, match='needs no export'):
        export_student(str(out), config, tmp_path / 'again.pth')
    assert config.model.type == 'DetectionDistill'  # the caller's config is left alone


def test_the_student_has_no_distillation_to_stop():
    hooks = [dict(type='mmrazor.StopDistillHook', stop_epoch=3), dict(type='EMAHook')]
    config = Config(dict(model=dict(architecture=dict(type='A')), custom_hooks=hooks))
    assert [hook['type'] for hook in student_config(config).custom_hooks] == ['EMAHook']


def test_student_config_follows_a_path(tmp_path):
    (tmp_path / 's.py').write_text(f'model = {tiny_ssd()!r}\n')
    config = Config(dict(model=tiny_pair(architecture=str(tmp_path / 's.py'))))
    assert student_config(config).model.type == 'SingleStageDetector'


@pytest.mark.parametrize(
    'student',
    [
        'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
        dict(cfg_path='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', pretrained=False),
    ],
)
def test_student_config_of_an_installed_one(student):
    """mmdet alone builds neither of the two forms; it failed when the training had ended."""
    own = student_config(Config(dict(model=tiny_pair(architecture=student)))).model
    assert own.type == 'RetinaNet' and own._scope_ == 'mmdet' and own.backbone.depth == 50


def test_student_config_names_no_part_of_the_packages_that_distil():
    imports = dict(imports=['mmkd', 'mine', 'mmrazor.models'], allow_failed_imports=False)
    shared = dict(model=tiny_pair(), val_cfg=dict(type='mmrazor.SingleTeacherDistillValLoop'))
    own = student_config(
        Config(
            dict(
                **shared,
                custom_imports=imports,
                visualizer=dict(_scope_='mmrazor', type='OfRazor'),
                default_hooks=dict(
                    visualization=dict(_scope_='mmrazor', type='RazorVisualizationHook'),
                    ema=dict(type='mmrazor.EMAHook'),  # mmengine's, by way of its child
                ),
            )
        )
    )
    assert own.custom_imports == dict(imports=['mine'], allow_failed_imports=False)
    assert own.val_cfg == dict(type='ValLoop') and list(own.default_hooks) == ['ema']
    assert own.visualizer.type == 'mmdet.DetLocalVisualizer'
    alone = dict(imports='mmkd')
    assert 'custom_imports' not in student_config(Config(dict(**shared, custom_imports=alone)))


def test_student_config_has_no_hook_of_the_distillation():
    hook = dict(type='DistillWeightHook', start_factor=1.0, end_factor=0.0, end=2)
    kept = dict(type='EMAHook')
    config = Config(
        dict(
            model=dict(architecture=dict(type='SingleStageDetector')),
            default_hooks=dict(
                non_finite=dict(type='NonFiniteHook'), logger=dict(type='LoggerHook')
            ),
            custom_hooks=[hook, dict(type='mmrazor.StopDistillHook', stop_epoch=1), kept],
        )
    )
    own = student_config(config)
    assert own.custom_hooks == [kept] and list(own.default_hooks) == ['logger']


@pytest.mark.parametrize(
    ('runner', 'stays'),
    [('ExactRunner', False), ('mmkd.runner.ExactRunner', False), ('Runner', True)],
)
def test_student_config_has_a_runner_that_mmdet_knows(runner, stays):
    """As of hooks and optimizer wrappers, its class says whose it is."""
    model = dict(architecture=dict(type='SingleStageDetector'))
    wrapper = dict(type='CpuAmpOptimWrapper')
    own = student_config(Config(dict(model=model, runner_type=runner, optim_wrapper=wrapper)))
    assert ('runner_type' in own) is stays and own.optim_wrapper.type == 'OptimWrapper'
