"""No weights by the back door: what mmengine loads by itself is counted, and nothing is refused
that weights are well loaded from."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.backbones import SSDVGG, PyramidVisionTransformer, ResNet, SwinTransformer
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModule
from torch import nn

from mmkd.checkpoints.loading import Fit, kept, source
from mmkd.doctor.models import check_weights
from mmkd.doctor.report import Section
from tests.checkpoints.test_weight_meaning import changed, text
from tests.tiny import raw_batch, tiny_pair, tiny_runner, tiny_ssd, tiny_ssd_with_adapters

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def weights_of(model: dict) -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    return MODELS.build(ConfigDict(model)).state_dict()


def begun(tmp_path, model: dict, content: object, resume: bool = False, **changes):
    """A runner that has loaded ``content`` by ``load_from``, and the file."""
    path = str(tmp_path / 'file.pth')
    torch.save(content, path)
    model = MODELS.build(ConfigDict(model))
    runner = tiny_runner(model, [raw_batch(1)], tmp_path, load_from=path, resume=resume, **changes)
    if not resume:
        runner.load_or_resume()
    return runner, path


def holds(model: nn.Module, weights: dict) -> bool:
    return all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def wrapped(weights: dict, prefix: str) -> dict:
    return {prefix + key: value for key, value in weights.items()}


@pytest.mark.parametrize('kind', ['plain', 'bare', 'ddp', 'averaged', 'twins', 'normalisation'])
@pytest.mark.parametrize('model', [tiny_ssd(), tiny_pair()], ids=['detector', 'pair'])
def test_load_from_any_file_of_the_student(tmp_path, model, kind, logged):
    weights = weights_of(tiny_ssd())
    content = dict(
        plain=dict(state_dict=weights),
        bare=weights,
        ddp=dict(state_dict=wrapped(weights, 'module.')),
        averaged=dict(ema_state_dict={**wrapped(weights, 'module.'), 'steps': torch.tensor(3)}),
        twins=dict(state_dict={**weights, 'ema_neck_x': torch.ones(1), 'neck.x': torch.ones(1)}),
        normalisation=dict(state_dict={**weights, 'data_preprocessor.mean': torch.zeros(3, 1, 1)}),
    )[kind]
    runner, path = begun(tmp_path, model, content)
    student = getattr(runner.model, 'student', runner.model)
    assert holds(student, weights)
    assert kept(student)[''].share == 1.0 and kept(student)[''].path == path
    assert f'load_from: 140 of 140 keys (100%) loaded from {path}' in logged()


def test_load_from_a_distillation_with_its_connectors(tmp_path):
    model = tiny_ssd_with_adapters()
    weights = weights_of(model)
    runner, _ = begun(tmp_path, model, dict(state_dict=weights))
    assert any('connectors' in key for key in weights) and holds(runner.model, weights)


def test_load_from_another_file_is_an_error(tmp_path):
    for model in (tiny_ssd(), tiny_pair()):
        with pytest.raises(ValueError, match=r'load_from must .*file\.pth" \d+ of 140 keys fit \('):
            begun(tmp_path, model, dict(state_dict=weights_of(tiny_ssd(width=16))))
        with pytest.raises(ValueError, match=r'0 of 120 keys fit \(0%\)\. The model has backbone'):
            begun(tmp_path, model, dict(state_dict={'a.b': torch.ones(2)}))


def test_load_from_for_fine_tuning(tmp_path, logged):
    """A head of other classes, or a backbone alone, is what many start from."""
    weights = weights_of(tiny_ssd(classes=20))
    names = tuple(map(str, range(20)))
    meta = dict(dataset_meta=dict(classes=names), cfg=text(tiny_ssd(classes=20)))
    runner, _ = begun(tmp_path, tiny_ssd(), dict(state_dict=weights, meta=meta))
    assert torch.equal(runner.model.backbone.conv1.weight, weights['backbone.conv1.weight'])
    assert 'of another shape: bbox_head.cls_convs' in logged()
    assert not kept(runner.model)[''].differences and 'was trained with' not in logged()
    part = {key: value for key, value in weights.items() if key.startswith('backbone.')}
    begun(tmp_path, tiny_ssd(), dict(state_dict=part))
    del part['backbone.layer4.1.bn2.weight']
    begun(tmp_path, tiny_ssd(), dict(state_dict=part))  # more than half still
    neck = {key: value for key, value in weights.items() if key.startswith('neck.')}
    with pytest.raises(ValueError, match='half of its keys or its whole backbone'):
        begun(tmp_path, tiny_ssd(), dict(state_dict=neck))


def test_load_from_other_priors_warns(tmp_path, logged):
    trained = changed(tiny_ssd(), 'bbox_head.anchor_generator.min_sizes', [9.6, 19.2, 38.4, 57.6])
    content = dict(state_dict=weights_of(tiny_ssd()), meta=dict(cfg=text(trained)))
    for model in (tiny_ssd(), tiny_pair()):
        runner, _ = begun(tmp_path, model, content)
        student = getattr(runner.model, 'student', runner.model)
        assert 'base_anchors' in kept(student)[''].differences[0].what
    assert logged().count('load_from: the model has bbox_head.prior_generator.base_anchors') == 2


def test_a_resume_executes_nothing_of_the_meta(tmp_path):
    """mmengine runs ``meta['config']``, in which mmdet 2.x kept its config."""
    ran = tmp_path / 'ran'
    saved, _ = begun(tmp_path, tiny_ssd(), dict(state_dict=weights_of(tiny_ssd())))
    saved.train()
    saved.save_checkpoint(str(tmp_path), 'epoch.pth', meta=dict(epoch=1, iter=1))
    content = torch.load(tmp_path / 'epoch.pth', weights_only=False)
    content['meta']['config'] = f'x = open({str(ran)!r}, "w")\ngpu_ids = [0]'
    runner, _ = begun(tmp_path, tiny_ssd(), content, resume=True)
    runner.train()
    assert kept(runner.model)[''].what == 'resume' and not ran.exists()


class Part(BaseModule):
    """A part with four tensors."""

    def __init__(self, init_cfg=None) -> None:
        super().__init__(init_cfg)
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)


@settings(max_examples=30)
@given(st.sets(st.sampled_from(['a.weight', 'a.bias', 'b.weight', 'b.bias'])), st.booleans())
def test_at_least_half_must_fit(keys, more):
    part = Part()
    state = {key: torch.full_like(part.state_dict()[key], 2) for key in keys}
    state.update({'fc.weight': torch.ones(3)} if more else {})
    assert len(Fit.of(part.state_dict(), state).fit) == len(keys)
    checkpoint = 'part.pth'
    from mmengine.runner.checkpoint import load_state_dict

    if len(keys) >= 2:
        with source('init_cfg of Part', checkpoint):
            load_state_dict(part, state)
        assert kept(part)[''].fit == len(keys)
        assert all(bool((part.state_dict()[key] == 2).all()) for key in keys)
    else:
        with (
            source('init_cfg of Part', checkpoint),
            pytest.raises(ValueError, match=rf'part\.pth" {len(keys)} of 4 keys fit'),
        ):
            load_state_dict(part, state)
    load_state_dict(Part(), {})  # not mmkd's business


def resnet(tmp_path, content: object, prefix: str | None = None, **changes) -> ResNet:
    """A ResNet-18 of 8 channels whose init_cfg names a file with ``content``."""
    torch.save(content, tmp_path / 'file.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'file.pth'))
    init_cfg.update({} if prefix is None else dict(prefix=prefix))
    model = ResNet(18, base_channels=8, init_cfg=init_cfg, **changes)
    model.init_weights()
    return model


def test_a_pretrained_backbone(tmp_path, logged):
    weights = {k: v + 1 for k, v in ResNet(18, base_channels=8).state_dict().items()}
    extra = {**weights, 'fc.weight': torch.ones(3, 3), 'fc.bias': torch.ones(3)}
    older = {k: v for k, v in extra.items() if not k.endswith('num_batches_tracked')}
    for content in (weights, extra, older, dict(state_dict=extra)):
        backbone = resnet(tmp_path, content)
        assert torch.equal(backbone.conv1.weight, weights['conv1.weight'])
        assert kept(backbone)[''].share == 1.0
    cut = resnet(tmp_path, extra, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
    assert kept(cut)[''].share == 1.0
    detector = {**wrapped(weights, 'backbone.'), 'bbox_head.w': torch.ones(2)}
    for prefix in ('backbone.', 'backbone'):
        assert kept(resnet(tmp_path, detector, prefix))[''].share == 1.0
    assert 'init_cfg of ResNet: 120 of 120 keys (100%) loaded from' in logged()
    stem = {k: v for k, v in weights.items() if not k.startswith(('conv1', 'bn1'))}
    assert kept(resnet(tmp_path, stem, in_channels=1))[''].share < 1.0
    for content, prefix, told in (
        (
            detector,
            None,
            r"0 of 100 keys.*Set prefix='backbone\.' beside the check",
        ),
        (wrapped(detector, 'architecture.'), None, r"Set prefix='architecture\.backbone\.'"),
        (detector, 'neck.', r'prefix of keys in its checkpoint, but got "neck\."'),
        (detector, 'bbox_head.', r'file\.pth" 0 of'),
        (ResNet(18, base_channels=16).state_dict(), None, r'Name a checkpoint of this arch'),
    ):
        with pytest.raises(ValueError, match=f'init_cfg of ResNet must .*{told}'):
            resnet(tmp_path, content, prefix)


def test_ssds_backbone_has_two_layers_more_than_its_file(tmp_path):
    changes = dict(depth=16, with_last_pool=False, ceil_mode=True, out_indices=(3, 4))
    own = SSDVGG(**changes).state_dict()
    file = {k: v for k, v in own.items() if not k.startswith(('features.31', 'features.33'))}
    torch.save({**file, 'classifier.0.weight': torch.ones(2)}, tmp_path / 'vgg16.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'vgg16.pth'))
    model = SSDVGG(**changes, init_cfg=init_cfg)
    model.init_weights()
    assert kept(model)[''].fit == len(own) - 4


@pytest.mark.parametrize(
    'kind, arguments',
    [
        (
            SwinTransformer,
            dict(embed_dims=8, depths=(1, 1), num_heads=(1, 1), strides=(4, 2), out_indices=(0, 1)),
        ),
        (
            PyramidVisionTransformer,
            dict(embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 1, 1, 1]),
        ),
    ],
)
def test_transformers_that_read_their_file_themselves(tmp_path, kind, arguments):
    path = str(tmp_path / 'file.pth')
    init_cfg = ConfigDict(type='Pretrained', checkpoint=path)
    weights = {k: v + 1 for k, v in kind(**arguments).state_dict().items()}
    # Swin takes what lies under "backbone.", PVT what does not.
    prefix = 'backbone.' if kind is SwinTransformer else ''
    torch.save(dict(state_dict=wrapped(weights, prefix)), path)
    model = kind(**arguments, init_cfg=init_cfg)
    model.init_weights()
    assert kept(model)[''].share == 1.0
    torch.save(dict(state_dict=wrapped({'norm.weight': torch.ones(3)}, prefix)), path)
    model = kind(**arguments, init_cfg=init_cfg)
    with pytest.raises(ValueError, match=f'init_cfg of {kind.__name__} must .* 0 of'):
        model.init_weights()
    model = kind(**arguments)
    model.init_weights()
    model.load_state_dict({}, strict=False)  # not at a start: nobody's business


def test_a_whole_detector_by_init_cfg_and_the_report_on_parts(tmp_path):
    student = tiny_ssd(classes=3)
    weights = weights_of(tiny_ssd(classes=20))
    torch.save(weights, tmp_path / 'whole.pth')
    student['init_cfg'] = dict(type='Pretrained', checkpoint=str(tmp_path / 'whole.pth'))
    pair = MODELS.build(ConfigDict(tiny_pair(architecture=student)))
    pair.init_weights()
    assert 0.5 < kept(pair.student)[''].share < 1.0
    student.pop('init_cfg')
    student['backbone']['init_cfg'] = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'whole.pth'), prefix='backbone.'
    )
    pair = MODELS.build(ConfigDict(tiny_pair(architecture=student)))
    pair.init_weights()
    section = Section('Weights')
    check_weights(section, pair, Config(dict()))
    [row] = [row for row in section.rows if row[0] == 'student.backbone']
    assert row[1:] == [str(tmp_path / 'whole.pth'), 120, 120, 1.0]
    torch.save({'backbone.x': torch.ones(1)}, tmp_path / 'whole.pth')
    pair = MODELS.build(ConfigDict(tiny_pair(architecture=student)))
    with pytest.raises(ValueError, match=r'init_cfg of ResNet must .*whole\.pth" 0 of 100'):
        pair.init_weights()
