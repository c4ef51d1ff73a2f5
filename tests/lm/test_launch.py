"""The settings for accelerate that ship: accelerate itself loads them, and they mean what the page says."""

import os
from importlib.resources import files
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from torch.distributed.fsdp import StateDictType

from spillover.config import Launch, launch

PRESET = str(files("spillover") / "presets" / "fsdp-9b.yaml")


def test_accelerate_loads_the_settings_for_nine_billion_parameters():
    found = load_config_from_file(PRESET)
    assert found.distributed_type == DistributedType.FSDP
    assert (found.num_processes, found.num_machines, found.mixed_precision) == (8, 1, "bf16")


def test_a_launch_with_them_splits_by_layer_and_saves_whole(monkeypatch):
    """Through the launcher's own parser into what it sets, and from there into what a training program reads of it."""
    words = ["--config_file", PRESET, "--main_process_port", "0", "-m", "spillover"]
    arguments = launch_command_parser().parse_args(words)
    arguments, _, _ = _validate_launch_command(arguments)
    environment = prepare_multi_gpu_env(arguments)
    here = {"RANK": "0", "WORLD_SIZE": "8", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8", "MASTER_ADDR": "a"}
    assert launch(environment | here).sharded
    for name, value in environment.items():
        if name.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setitem(os.environ, name, value)
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    assert plugin.reshard_after_forward is True and plugin.activation_checkpointing is True
    assert plugin.cpu_ram_efficient_loading is True and plugin.state_dict_type == StateDictType.FULL_STATE_DICT
    assert "transformer_auto_wrap" in plugin.auto_wrap_policy.__name__
    assert environment["ACCELERATE_MIXED_PRECISION"] == "bf16"


def test_a_name_that_accelerate_does_not_know_would_be_refused(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text(Path(PRESET).read_text(encoding="utf-8") + "num_process: 8\n", encoding="utf-8")
    with pytest.raises(ValueError, match="unknown keys"):
        load_config_from_file(str(path))


def test_where_a_process_stands_is_read_as_launchers_say_it():
    torchrun = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}
    assert launch(torchrun) == Launch(3, 8, 1, 2)
    mpi = {"RANK": "COMM_WORLD_RANK", "WORLD_SIZE": "COMM_WORLD_SIZE", "LOCAL_RANK": "COMM_WORLD_LOCAL_RANK",
           "LOCAL_WORLD_SIZE": "COMM_WORLD_LOCAL_SIZE"}  # fmt: skip
    open_mpi = {f"OMPI_{mpi[name]}": value for name, value in torchrun.items() if name in mpi}
    assert launch(open_mpi | {"MASTER_ADDR": "a", "ACCELERATE_USE_CPU": "True"}) == Launch(3, 8, 1, 2, cpu=True)
    # A cluster may number its machines so, without starting processes that belong together.
    assert launch({"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "a"}) == Launch()
    assert launch(torchrun | {"MASTER_ADDR": ""}) == Launch()
    assert launch({"MASTER_ADDR": "a", "ACCELERATE_MIXED_PRECISION": "no"}) == Launch(single_process=True)
