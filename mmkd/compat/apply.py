"""All patches, in the order in which they are applied."""

from mmkd.compat.checkpoints import (
    allow_checkpoint_globals,
    count_what_fits,
    count_what_fits_in_transformers,
    load_data_without_running,
    open_checkpoints_without_running,
    read_without_running,
    remove_checkpoints_late,
    write_checkpoints_whole,
)
from mmkd.compat.configs import (
    find_shipped_configs,
    keep_scopes_from_functions,
    lay_out_configs_once,
    put_arguments_in_the_place_of_auto,
    read_configs_past_byte_order_marks,
    write_paths_into_configs_as_python_does,
)
from mmkd.compat.datasets import (
    check_loaded_images,
    hold_boxes_to_the_rules,
    lengthen_short_palettes,
    name_images_of_other_channels,
    read_coco_files_of_any_encoding,
    read_voc_lists_and_suffixes,
    refuse_broken_images,
)
from mmkd.compat.detectors import (
    call_heads_with_their_hooks,
    normalise_ssd_over_ranks,
    predict_batches_of_guided_anchors,
    predict_branches_by_image,
    repair_ssd_head,
    run_instance_segmentors_without_ground_truth,
    tell_of_the_student,
)
from mmkd.compat.heads import let_heads_have_own_methods
from mmkd.compat.logging import read_logged_values_late
from mmkd.compat.metrics import (
    give_metrics_the_loaded_ground_truth,
    measure_what_was_loaded,
    score_no_detections,
)
from mmkd.compat.mmcv_ops import pool_without_torchvision, supply_mmcv_ops
from mmkd.compat.optimizers import decay_the_students_layers
from mmkd.compat.packages import (
    accept_mmcv_version,
    hide_the_lack_of_an_unused_metric,
    placeholder_quantization,
    reject_mixed_families,
    require_pkg_resources,
)
from mmkd.compat.transforms import hand_out_detections, let_detections_follow

PATCHES = (
    reject_mixed_families,
    require_pkg_resources,
    hide_the_lack_of_an_unused_metric,
    supply_mmcv_ops,
    accept_mmcv_version,
    placeholder_quantization,
    find_shipped_configs,
    read_configs_past_byte_order_marks,
    write_paths_into_configs_as_python_does,
    lay_out_configs_once,
    keep_scopes_from_functions,
    put_arguments_in_the_place_of_auto,
    allow_checkpoint_globals,
    read_without_running,
    load_data_without_running,
    open_checkpoints_without_running,
    count_what_fits,
    write_checkpoints_whole,
    remove_checkpoints_late,
    repair_ssd_head,
    count_what_fits_in_transformers,
    pool_without_torchvision,
    let_heads_have_own_methods,
    normalise_ssd_over_ranks,
    call_heads_with_their_hooks,
    run_instance_segmentors_without_ground_truth,
    predict_batches_of_guided_anchors,
    read_coco_files_of_any_encoding,
    predict_branches_by_image,
    read_voc_lists_and_suffixes,
    hold_boxes_to_the_rules,
    refuse_broken_images,
    score_no_detections,
    tell_of_the_student,
    give_metrics_the_loaded_ground_truth,
    measure_what_was_loaded,
    lengthen_short_palettes,
    hand_out_detections,
    let_detections_follow,
    check_loaded_images,
    name_images_of_other_channels,
    decay_the_students_layers,
    read_logged_values_late,
)


def apply() -> None:
    """Apply every patch, in this order."""
    for patch in PATCHES:
        patch()
