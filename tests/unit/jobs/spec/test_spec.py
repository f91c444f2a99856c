from pathlib import Path
from typing import Any

import pytest

from dimoo_core.errors import ConfigError
from dimoo_core.settings import (
    ImageSettings,
    ParallelCommit,
    StepCacheConfig,
    TargetCacheConfig,
    TextCacheConfig,
    TextSettings,
)
from jobs.spec.spec import DEFAULT_MODEL, JobSpec, load_spec


def spec(*overrides: str, **flags: Any) -> JobSpec:
    return load_spec(None, {"manifest": "m.parquet"} | flags, overrides)


def problem(*overrides: str, **flags: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        spec(*overrides, **flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_manifest_is_all_that_is_needed() -> None:
    job = spec()
    assert job.model == DEFAULT_MODEL
    assert job.row_defaults().text_to_image == ImageSettings()
    assert job.row_defaults().understanding == TextSettings()
    assert job.output_uri == "m-output"


@pytest.mark.parametrize(
    ("manifest", "output"),
    [
        ("m.parquet", "m-output"),
        ("data/prompts.parquet", "prompts-output"),
        ("s3://bucket/prompts/", "prompts-output"),
        ("s3://bucket/prompts/a.parquet", "a-output"),
        ("/", "manifest-output"),
    ],
)
def test_the_output_is_named_after_the_manifest(manifest: str, output: str) -> None:
    assert spec(manifest=manifest).output_uri == output
    assert spec(manifest=manifest, output="elsewhere").output_uri == "elsewhere"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("job.yaml", "seed: 3\ntext_to_image: {steps: 8, cfg_scale: 2}\npassthrough: [a, b]\n"),
        ("job.yml", "seed: 3\ntext_to_image:\n  steps: 8\n  cfg_scale: 2.0\npassthrough:\n- a\n- b\n"),
        ("job.toml", 'seed = 3\npassthrough = ["a", "b"]\n[text_to_image]\nsteps = 8\ncfg_scale = 2\n'),
    ],
)
def test_specs_are_yaml_or_toml(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    job = load_spec(tmp_path / name, {"manifest": "m.parquet"}, [])
    assert (job.seed, job.text_to_image.steps, job.text_to_image.cfg_scale) == (3, 8, 2.0)
    assert job.passthrough == ("a", "b")


def test_flags_win_over_the_file_and_assignments_over_both(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("manifest: theirs.parquet\nlimit: 1\nseed: 1\nworkers: 1\n")
    job = load_spec(tmp_path / "job.yaml", {"manifest": "m.parquet", "limit": 2, "workers": None}, ["limit=3"])
    assert (job.manifest, job.limit, job.seed, job.workers) == ("m.parquet", 3, 1, 1)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("# nothing yet\n")
    assert load_spec(tmp_path / "job.yaml", {"manifest": "m.parquet"}, []) == spec()


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("task=caption", lambda job: job.task == "caption"),
        ("prompt=What is this: a = b?", lambda job: job.prompt == "What is this: a = b?"),
        ("prompt= the color #5, don't @me ", lambda job: job.prompt == "the color #5, don't @me"),
        ("prompt=*what*", lambda job: job.prompt == "*what*"),
        ("prompt='5'", lambda job: job.prompt == "5"),
        ("prompt=yes", lambda job: job.prompt == "yes"),
        ("prompt=2024-01-01", lambda job: job.prompt == "2024-01-01"),
        ("prompt=null", lambda job: job.prompt is None),
        ("engine.batch_invariance=off", lambda job: job.engine.batch_invariance == "off"),
        (
            "engine={batch_invariance: off, compile: yes}",
            lambda job: job.engine.batch_invariance == "off" and job.engine.compile,
        ),
        ("captions={short: {prompt: no, max_tokens: 8}}", lambda job: job.captions.settings().short.prompt == "no"),
        ("passthrough=[no, 1.50]", lambda job: job.passthrough == ("no", "1.50")),
        ("hooks.scores={sharp: on}", lambda job: job.hooks.scores == {"sharp": "on"}),
        ("failures.max_failures=5", lambda job: job.failures.max_failures == 5),
        ("understanding.resolution=adaptive", lambda job: job.understanding.resolution == "adaptive"),
        ("understanding.resolution=512", lambda job: job.understanding.resolution == 512),
        ("understanding.random_crop=true", lambda job: job.understanding.random_crop),
        ("text_to_image.cfg_scale=3", lambda job: job.text_to_image.cfg_scale == 3.0),
        ("passthrough=[promt]", lambda job: job.passthrough == ("promt",)),
        ("preset=reference-cache", lambda job: job.row_defaults().preset == "reference-cache"),
        (
            "text_to_image.step_cache.mode=none",
            lambda job: job.row_defaults().explicit_text_to_image == ("step_cache",),
        ),
        (
            "image_to_image={step_cache: {mode: none}, random_crop: true}",
            lambda job: (
                job.row_defaults().explicit_image_to_image == ("step_cache",)
                and job.row_defaults().explicit_text_to_image == ()
                and (job.image_to_image.random_crop, job.understanding.random_crop) == (True, False)
            ),
        ),
        (
            "text_to_image.step_cache={mode: reference, refresh_interval: 4}",
            lambda job: job.text_to_image.settings().step_cache == StepCacheConfig(refresh_interval=4),
        ),
        (
            "text_to_image={step_cache: {mode: target, lookahead: 4}, uncond_interval: 3}",
            lambda job: (
                job.text_to_image.settings().step_cache == TargetCacheConfig(lookahead=4.0)
                and job.row_defaults().explicit_text_to_image == ("step_cache", "uncond_interval")
            ),
        ),
        (
            "understanding={cache: {mode: prefix, refresh_interval: 4}, commit: {rule: entropy, bound: 0.5}}",
            lambda job: (
                job.understanding.settings().cache == TextCacheConfig(mode="prefix", refresh_interval=4)
                and job.understanding.settings().commit == ParallelCommit(rule="entropy", bound=0.5)
                and job.row_defaults().explicit_understanding == ("cache", "commit")
            ),
        ),
        ("understanding.cache.mode=none", lambda job: job.row_defaults().understanding.cache is None),
        (
            "understanding.commit.rule=none",
            lambda job: (
                job.row_defaults().explicit_understanding == ("commit",)
                and job.row_defaults().explicit_text_to_image == ()
            ),
        ),
        (
            "text_to_image={commit: {rule: confidence, bound: 0.8}, step_cache: {mode: target, refresh_share: 0.25}}",
            lambda job: (
                job.text_to_image.settings().commit == ParallelCommit(bound=0.8)
                and job.text_to_image.settings().step_cache == TargetCacheConfig(refresh_share=0.25)
                and job.row_defaults().explicit_text_to_image == ("step_cache", "commit")
            ),
        ),
        ("limit=", lambda job: job.limit is None),
        ("image={format: webp, quality: 80}", lambda job: (job.image.format, job.image.quality) == ("webp", 80)),
    ],
)
def test_assignments_take_values_in_yaml(override: str, found: Any) -> None:
    assert found(spec(override))


def test_assignments_to_one_section_add_up() -> None:
    job = spec("text_to_image.steps=8", "text_to_image.width=512", "text_to_image.steps=16")
    assert (job.text_to_image.steps, job.text_to_image.width, job.text_to_image.height) == (16, 512, 1024)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "--set needs key=value, got 'steps'"),
        ("=8", "--set needs key=value, got '=8'"),
        ("seed.a=1", "seed must be a valid integer, got {'a': 1}"),
        ("prompt=[", "--set prompt: '[' is not a value in YAML"),
        ("limt=3", "unknown key 'limt', did you mean 'limit'; known here: manifest, output, model"),
        (
            "text_to_image.step=3",
            "unknown key 'text_to_image.step', did you mean 'steps'; known here: step_cache, uncond_interval, commit",
        ),
        ("nothing.like.it=3", "unknown key 'nothing'; known here: manifest"),
        ("text_to_image.steps=many", "text_to_image.steps must be a valid integer, got 'many'"),
        ("text_to_image.steps=8.5", "text_to_image.steps must be a valid integer, got 8.5"),
        ("text_to_image=8", "text_to_image must be an object, got 8"),
        ("limit=0", "limit must be at least 1, got 0"),
        ("workers=-1", "workers must be at least 0, got -1"),
        ("workers=true", "workers must be a valid integer, got True"),
        ("image.format=gif", "image.format must be 'png', 'jpeg' or 'webp', got 'gif'"),
        ("failures.max_engine_streak=0", "failures.max_engine_streak must be at least 1, got 0"),
        ("failures.tries.store=0", "failures.tries.store must be at least 1, got 0"),
        ("failures.trys=0", "unknown key 'failures.trys', did you mean 'tries'; known here: tries, first_wait_s"),
        ("sources.decode_memory_bytes=1", "sources.decode_memory_bytes must be at least 268435456, got 1"),
        ("tokenize.resolution=33", "tokenize.resolution must be a multiple of 32, adaptive or native, got 33"),
        ("image.quality=0", "image.quality must be from 1 to 100, got 0"),
        (
            "understanding.resolution=100",
            "understanding.resolution must be a multiple of 32, adaptive or native, got 100",
        ),
        ("dtype=int8", "dtype must be 'float32', 'bfloat16', 'float16' or 'float8' or 'auto', got 'int8'"),
        ("engine.batch_invariance=maybe", "engine.batch_invariance must be 'auto', 'on' or 'off'"),
        ("pipeline.segment_rows=0", "pipeline.segment_rows must be at least 1, got 0"),
        ("passthrough=a", "passthrough must be a valid array, got 'a'"),
        ("model=", "model must be a valid string, got None"),
    ],
)
def test_wrong_assignments_are_told_with_their_key_and_value(override: str, message: str) -> None:
    assert message in problem(override)


def test_every_problem_is_told_at_once() -> None:
    message = problem("limt=3", "workers=-1", "image.format=gif")
    assert message.count("; ") >= 2
    assert "limt" in message
    assert "workers must be at least 0" in message
    assert "image.format must be" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("text_to_image.width=1000", "text_to_image.width must be a multiple of 16 from 16 to 2048, got 1000"),
        ("text_to_image.steps=0", "text_to_image.steps must be at least 1, got 0"),
        ("text_to_image.temperature=-1", "text_to_image.temperature must be 0 or more, got -1.0"),
        ("text_to_image.temperature=1.0e-39", "text_to_image.temperature must be 0 or from 1e-15 to 1e+15, got 1e-39"),
        ("image_to_image.cfg_image_scale=1.0e+38", "image_to_image.cfg_image_scale must be at most 1e+15, got 1e+38"),
        ("understanding.temperature=100", "understanding.temperature must be 0 or from 1e-15 to 16, got 100.0"),
        ("understanding.block_length=100", "understanding.block_length must be a divisor of max_tokens (1024)"),
        (
            "preset=exat",
            "preset must be one of exact, reference-cache, balanced, fast, got 'exat' (did you mean 'exact'?)",
        ),
        (
            "text_to_image.step_cache={mode: reference, reuse_ratio: 1}",
            "text_to_image.step_cache.reuse_ratio must be between 0 and 1, got 1.0",
        ),
        (
            "text_to_image.step_cache={mode: none, reuse_ratio: 0.5}",
            "unknown key 'text_to_image.step_cache.reuse_ratio'; known here: mode",
        ),
        (
            "text_to_image.step_cache={mode: reference, lookahead: 4}",
            "unknown key 'text_to_image.step_cache.lookahead'; known here: mode, reuse_ratio, refresh_interval",
        ),
        (
            "text_to_image={step_cache: {mode: reference}, uncond_interval: 2}",
            "text_to_image.uncond_interval must be 1 with the reference's cache, got 2",
        ),
        (
            "understanding.cache={mode: dual, prompt_interval: -1}",
            "understanding.cache.prompt_interval must be 0 or more",
        ),
        ("understanding.commit.rule=entropy", "understanding.commit.bound is missing"),
        (
            "understanding.commit={rule: confidence, bound: 2}",
            "understanding.commit.bound must be above 0 and at most 1",
        ),
        ("task=draw", "task must be one of text_to_image"),
        ("prompt=' '", "prompt must not be empty"),
    ],
)
def test_values_out_of_range_are_told_with_their_section(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        spec(override).row_defaults()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("gone.yaml", None, "cannot read the spec .*gone.yaml: No such file or directory"),
        ("job.yaml", b"a: [1", "the spec .*job.yaml cannot be parsed: while parsing"),
        ("job.yaml", b"- a\n- b\n", "the spec .*job.yaml must be a mapping of keys to values, got list"),
        ("job.yaml", b"\xff\xfe", "the spec .*job.yaml cannot be parsed"),
        ("job.toml", b"a = ", "the spec .*job.toml cannot be parsed: Invalid value"),
        ("job.yaml", b"text_to_image: {setps: 3}", "unknown key 'text_to_image.setps', did you mean 'steps'"),
        ("job.yaml", b"2024-01-01: x", "the spec cannot be read: keys must be str"),
        ("job.yaml", b"hooks: &all {scores: *all}", "the spec cannot be read: circular reference"),
    ],
)
def test_wrong_files_are_told(name: str, data: bytes | None, message: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=message) as caught:
        load_spec(tmp_path / name, {"manifest": "m.parquet"}, [])
    assert "\n" not in str(caught.value)
