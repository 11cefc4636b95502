"""Defaults, config.toml and the environment, and which of them wins."""

from pathlib import Path

import pytest

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.settings import Settings


@pytest.fixture
def config(tmp_path):
    """Writes a config.toml; returns the environment that names it."""

    def write(text, **environ):
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return {"DEJAVLAD_CONFIG": str(path), **environ}

    return write


def test_defaults(tmp_path):
    settings = Settings.load({"DEJAVLAD_CONFIG": str(tmp_path / "none.toml")})
    assert settings.cache_dir.name == "dejavlad" and settings.cache_dir.is_absolute()
    assert settings.models_dir == settings.cache_dir / "models"
    assert (settings.offline, dict(settings.roots)) == (False, {})
    sources = {name: source for name, _, source in settings.explain()}
    assert sources == {
        "config.toml": "not there",
        "cache_dir": "default",
        "models_dir": "in cache_dir",
        "offline": "default",
        "max_pixels": "default",
    }


def test_environment_wins_over_file_over_default(config, tmp_path):
    text = f"""
        cache_dir = '{tmp_path / "one"}'
        models_dir = '{tmp_path / "models"}'
        offline = false
        [roots]
        pitts30k = '{tmp_path / "pitts"}'
        Tokyo_247 = '{tmp_path / "tokyo"}'
    """
    other = tmp_path / "two"
    environ = config(
        text,
        DEJAVLAD_CACHE_DIR=str(other),
        DEJAVLAD_OFFLINE="1",
        DEJAVLAD_ROOT_TOKYO_247=str(other),
        DEJAVLAD_MODELS_DIR="",
    )
    settings = Settings.load(environ)
    assert (settings.cache_dir, settings.models_dir, settings.offline) == (other, tmp_path / "models", True)
    assert dict(settings.roots) == {"pitts30k": tmp_path / "pitts", "tokyo-247": other}
    file = environ["DEJAVLAD_CONFIG"]
    assert settings.explain() == [
        ("config.toml", file, "read"),
        ("cache_dir", str(other), "environment DEJAVLAD_CACHE_DIR"),
        ("models_dir", str(tmp_path / "models"), file),
        ("offline", "True", "environment DEJAVLAD_OFFLINE"),
        ("max_pixels", "178956970", "default"),
        ("roots.pitts30k", str(tmp_path / "pitts"), file),
        ("roots.tokyo-247", str(other), "environment DEJAVLAD_ROOT_TOKYO_247"),
    ]


def test_models_lie_in_the_cache_unless_told_otherwise(tmp_path):
    environ = {"DEJAVLAD_CONFIG": str(tmp_path / "none"), "DEJAVLAD_CACHE_DIR": str(tmp_path)}
    assert Settings.load(environ).models_dir == tmp_path / "models"


def test_relative_folders_in_the_file_are_beside_it(config, tmp_path):
    settings = Settings.load(config("cache_dir = 'cache'\nmodels_dir = '~/models'"))
    assert settings.cache_dir == tmp_path / "cache"
    assert settings.models_dir == Path("~/models").expanduser()


def test_root_of_a_dataset_and_of_its_parts(tmp_path):
    settings = Settings(tmp_path, tmp_path, roots={"Pitts30k": Path("a"), "tokyo_247": Path("b")})
    assert settings.root("pitts30k") == settings.root("pitts30k-test") == Path("a")
    assert settings.root("tokyo-247") == settings.root("TOKYO_247-val") == Path("b")
    assert settings.root("pitts") is None
    assert settings.root("tokyo") is None


@pytest.mark.parametrize(("text", "means"), [("yes", True), ("0", False), ("False", False), (" ON ", True)])
def test_offline_switch(tmp_path, text, means):
    environ = {"DEJAVLAD_CONFIG": str(tmp_path / "none"), "DEJAVLAD_OFFLINE": text}
    assert Settings.load(environ).offline is means


def test_unknown_setting_lists_near_ones(config):
    with pytest.raises(UnknownNameError, match=r"config\.toml.*'cach_dir'; did you mean cache_dir"):
        Settings.load(config("cach_dir = '/a'"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cache_dir = ", "cannot be read as settings"),
        ("cache_dir = 3", "cache_dir must be a folder; given 3"),
        ("models_dir = ' '", "models_dir must be a folder"),
        ("cache_dir = '~nobody-of-this-name/x'", "cache_dir must be a folder"),
        ("offline = 'perhaps'", "offline must be true or false; given 'perhaps'"),
        ("max_pixels = 0", "max_pixels must be a whole number of 1 or more; given 0"),
        ("max_pixels = 1.5", "max_pixels must be a whole number of 1 or more; given 1.5"),
        ("max_pixels = true", "max_pixels must be a whole number of 1 or more; given True"),
        ("roots = 'pitts'", "roots is a table of folders"),
        ("[roots]\npitts30k = 5", r"roots\.pitts30k must be a folder"),
    ],
)
def test_bad_settings_are_told_in_one_line(config, text, message):
    with pytest.raises(InputError, match=message) as caught:
        Settings.load(config(text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(config, tmp_path):
    environ = config("")
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read as settings"):
        Settings.load(environ)
