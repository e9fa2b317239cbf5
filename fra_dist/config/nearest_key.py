"""Which key a user means by one that does not exist: mistyped, in the wrong section, or another trainer's word."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from fra_dist.config.schema import Config
from fra_dist.config.section import Section, section_of

_WORDS = {
    "name": "exp_name experiment experiment_name run_name project",
    "output": "out out_dir output_dir save_dir save_path log_dir logdir run_dir work_dir default_root_dir exp_dir",
    "seed": "random_seed rng_seed manual_seed",
    "data.shards": "path root data_dir data_path data_root dataroot dataset dataset_path train_dir train_data urls",
    "data.photos": "images image_dir images_dir image_folder img_dir imagefolder",
    "data.cache": "cache_dir local_dir",
    "data.image_size": "img_size input_size crop_size resolution image_resolution size",
    "data.pipeline": "loader dataloader use_dali dali",
    "data.threads": "workers num_workers n_workers dataloader_num_workers num_threads cpu_workers",
    "data.prefetch": "prefetch_factor prefetch_batches",
    "data.shuffle_window": "shuffle shuffle_buffer shuffle_buffer_size buffer_size shuffle_block_size",
    "data.local_views": "num_crops n_local_crops local_crops_number num_small_crops nmb_crops",
    "data.local_size": "local_crop_size local_crops_size",
    "data.view1.crop_scale": "scale min_scale crop_min_scale global_crops_scale random_resized_crop",
    "data.view1.crop_ratio": "aspect_ratio",
    "data.view1.flip": "hflip flip_prob horizontal_flip random_flip horizontal_flip_prob",
    "data.view1.jitter": "color_jitter colour_jitter jitter_prob color_jitter_prob",
    "data.view1.grey": "gray grayscale greyscale gray_scale_prob grayscale_prob random_gray_scale",
    "data.view1.blur": "gaussian_blur blur_prob gaussian_blur_prob",
    "data.view1.solarise": "solarize solarization solarize_prob solarization_prob",
    "model.backbone": "arch architecture encoder network net model_name backbone_name timm_model",
    "model.init": "pretrained weights init_weights pretrained_weights pretrained_path init_from load_from",
    "model.regions": "num_regions n_regions num_queries queries num_masks n_clusters num_prototypes",
    "model.width": "embed_dim embedding_dim proj_dim projection_dim proj_output_dim out_dim feature_dim d_model",
    "model.hidden": "hidden_dim hidden_size proj_hidden_dim pred_hidden_dim mlp_dim projector_hidden",
    "model.decoder.layers": "num_layers n_layers decoder_layers num_decoder_layers depth",
    "model.decoder.heads": "num_heads n_heads nhead attention_heads",
    "model.decoder.feedforward": "dim_feedforward ffn_dim",
    "model.decoder.dropout": "drop drop_rate dropout_rate attn_dropout",
    "loss.student_temperature": "temperature temp student_temp",
    "loss.teacher_temperature": "teacher_temp",
    "loss.sinkhorn_rounds": "sinkhorn_iterations sinkhorn_iters n_sinkhorn_iterations",
    "loss.relation": "relation_weight semantic_weight lambda_relation",
    "loss.local": "local_weight lambda_local",
    "loss.global": "global_weight lambda_global",
    "optim.name": "optimizer optimiser opt optimizer_name optimizer_type",
    "optim.lr": "learning_rate base_lr max_lr peak_lr initial_lr",
    "optim.lr_batch": "base_batch_size reference_batch_size scale_lr",
    "optim.final_lr": "min_lr eta_min final_learning_rate lr_end end_lr",
    "optim.betas": "adam_betas beta1 beta2 adam_beta1 adam_beta2",
    "optim.trust": "trust_coefficient trust_coef",
    "optim.weight_decay": "wd l2 decay",
    "optim.weight_decay_end": "wd_end final_weight_decay",
    "optim.exclude": "exclude_bias_n_norm no_decay skip_weight_decay filter_bias_and_bn",
    "optim.clip": "grad_clip clip_grad clip_grad_norm max_grad_norm gradient_clip_val clip_norm gradient_clipping",
    "optim.warmup_steps": "warmup warm_up warmup_iters warmup_iterations num_warmup_steps n_warmup_steps",
    "optim.warmup_epochs": "warmup_epoch num_warmup_epochs warm_up_epochs",
    "optim.schedule": "scheduler lr_scheduler lr_scheduler_type lr_schedule sched",
    "optim.drops": "milestones lr_decay_epochs lr_decay_steps lr_steps",
    "optim.ema_momentum": "ema ema_decay tau base_tau momentum_teacher momentum_target base_momentum",
    "train.global_batch": "batch_size batch bs global_batch_size effective_batch_size train_batch_size "
    "total_batch_size",
    "train.micro_batch": "per_device_batch_size per_device_train_batch_size micro_batch_size batch_size_per_gpu "
    "train_micro_batch_size_per_gpu accumulate_grad_batches gradient_accumulation_steps grad_accum accumulation "
    "accum_iter",
    "train.epochs": "max_epochs num_epochs n_epochs num_train_epochs total_epochs epoch",
    "train.steps": "max_steps num_steps total_steps train_steps iterations iters max_iters num_train_steps n_iters",
    "train.precision": "amp fp16 bf16 half mixed_precision dtype use_amp autocast float16 bfloat16",
    "train.backend": "strategy engine ddp use_deepspeed",
    "train.zero_stage": "zero stage zero_optimization",
    "train.activation_checkpointing": "gradient_checkpointing grad_checkpointing activation_checkpoint",
    "train.compile": "torch_compile torchcompile",
    "train.channels_last": "memory_format",
    "train.deterministic": "reproducible cudnn_deterministic",
    "train.device": "gpu gpus num_gpus n_gpus devices accelerator cuda use_gpu",
    "checkpoint.every_steps": "save_every save_steps save_interval save_freq checkpoint_interval checkpoint_every "
    "ckpt_every",
    "checkpoint.keep_last": "save_total_limit save_top_k max_to_keep keep keep_checkpoints",
    "checkpoint.keep_best": "monitor metric_for_best_model save_best",
    "checkpoint.best_is": "mode greater_is_better",
    "log.every_steps": "log_every log_interval logging_steps log_every_n_steps log_freq print_freq log_steps",
    "log.tensorboard": "tb use_tensorboard",
    "probe.every_steps": "eval_every eval_steps eval_interval eval_freq val_freq val_check_interval val_interval",
}
"""Our key -> the words that other trainers have for it."""

OTHER_WORDS = {word: key for key, words in _WORDS.items() for word in words.split()}
"""Another trainer's word -> our key."""

WHOLE_NAMES = {"model.name": "model.backbone", "data.name": "data.shards", "log.dir": "output", "train.name": "name"}
"""Dotted names whose last part alone would lead elsewhere."""

NO_KEYS = {
    **dict.fromkeys(
        ("nodes", "num_nodes", "world_size", "nproc_per_node"), "the launcher sets it: fra-dist launch --help"
    ),
    **dict.fromkeys(
        ("resume", "resume_from", "resume_from_checkpoint", "ckpt_path"),
        "the same command resumes its run; --from PATH names another checkpoint",
    ),
}
"""Another trainer's word -> what there is here instead of a key."""


def advice(path: Sequence[Any], value: Any = None) -> str:
    """What to say of an unknown key: ` (did you mean optim.lr?)`.

    path: the parts of its dotted name; `value` is what it holds, whose keys are looked at where it is a section.
    """
    leaves = list(_leaves([str(part) for part in path if not isinstance(part, int)], value))
    hints = dict.fromkeys(hint for leaf in leaves if (hint := _of_one(leaf)))
    return f" ({', '.join(list(hints)[:3])})" if hints else " (`fra-dist config` lists all keys)"


def nearest_key(name: str) -> str | None:
    """Our key for a dotted name that is none; None when nothing is like it."""
    *sections, leaf = name.split(".")
    parent, leaf = ".".join(sections), leaf.lower().replace("-", "_")
    known = keys_of(Config)
    siblings = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == parent}
    if name in WHOLE_NAMES:
        return WHOLE_NAMES[name]
    if leaf in siblings:
        return siblings[leaf]
    if leaf in OTHER_WORDS:
        key = OTHER_WORDS[leaf]
        return siblings.get(key.rpartition(".")[2], key) if key.startswith("data.view1.") else key
    if near := difflib.get_close_matches(leaf, siblings, 1, 0.8):
        return siblings[near[0]]
    return _same_leaf(parent, leaf, known) or _like(name, leaf, known)


def keys_of(section: type[Section], prefix: str = "") -> list[str]:
    """The dotted names of all sections and keys, in the order of the schema."""
    keys = []
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        keys.append(key)
        inner, _ = section_of(field.annotation)
        if inner is not None:
            keys += keys_of(inner, f"{key}.")
    return keys


def _of_one(name: str) -> str | None:
    leaf = name.rpartition(".")[2].lower()
    if leaf in NO_KEYS:
        return NO_KEYS[leaf]
    near = nearest_key(name)
    if near == name:
        return f"write {near.partition('.')[0]} as a section that holds {near.partition('.')[2]}"
    return f"did you mean {near}?" if near else None


def _leaves(path: list[str], value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves([*path, str(key)], inner)
    else:
        yield ".".join(path)


def _same_leaf(parent: str, leaf: str, known: Sequence[str]) -> str | None:
    """A key of another section with this very name: of the section that is spelled most like `parent`."""
    found = [key for key in known if key.rpartition(".")[2] == leaf]
    like = difflib.get_close_matches(parent, [key.rpartition(".")[0] for key in found], 1, 0.6)
    if like:
        return next(key for key in found if key.rpartition(".")[0] == like[0])
    return min(found, key=lambda key: key.count("."), default=None)


def _like(name: str, leaf: str, known: Sequence[str]) -> str | None:
    leaves = {key.rpartition(".")[2]: key for key in reversed(known)}
    if near := difflib.get_close_matches(name, [key for key in known if key.count(".") == name.count(".")], 1, 0.8):
        return near[0]
    if near := difflib.get_close_matches(leaf, leaves, 1, 0.75):
        return leaves[near[0]]
    near = difflib.get_close_matches(leaf, OTHER_WORDS, 1, 0.8)
    return OTHER_WORDS[near[0]] if near else None
