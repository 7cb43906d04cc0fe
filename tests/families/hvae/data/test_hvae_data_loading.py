"""What is written after `--data` names images, or is refused with what would be right."""

import pickle
from pathlib import Path

import pytest
from imagefiles import write_amats, write_mnist
from pydantic import ValidationError

from vaesweep.errors import UserError
from vaesweep.families.hvae.data import FORMS, ImagesConfig, load


def refusal(spec: str) -> str:
    with pytest.raises(UserError) as caught:
        load(spec, ImagesConfig())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_forms_are_told() -> None:
    assert FORMS == (
        "poisson or poisson:unseen=A+B, with noise_2 and modes_2 to choose from, or mnist:DIR, binarised_mnist:DIR, "
        "folder:DIR"
    )


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("possion", "unknown kind 'possion' (did you mean 'poisson'?); use poisson or"),
        ("binarized_mnist:x", "unknown kind 'binarized_mnist' (did you mean 'binarised_mnist'?)"),
        ("", "unknown kind ''"),
        ("poisson:", "unknown option ''"),
        ("poisson:unsen=noise_2", "unknown option 'unsen' (did you mean 'unseen'?)"),
        ("poisson:unseen=", "unknown domain ''; there are noise_2, modes_2"),
        ("poisson:unseen=noise_2+mode_2", "unknown domain 'mode_2' (did you mean 'modes_2'?)"),
        ("poisson:unseen=noise_2+noise_2", "named twice"),
        ("mnist", "a folder is needed; write mnist:DIR"),
        ("mnist:", "a folder is needed; write mnist:DIR"),
        ("folder:/nowhere/at/all", "no such file or folder"),
    ],
)
def test_a_wrong_specification_says_what_would_be_right(spec: str, said: str) -> None:
    assert said in refusal(spec)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "images.png").write_bytes(b"")
    assert "images.png is a file; give the folder that it is in" in refusal(f"folder:{tmp_path}/images.png")


@pytest.mark.parametrize("values", [{"size": 3}, {"rows": {"train": 0}}, {"binarisation": "none"}, {"sizes": 16}])
def test_settings_that_cannot_be_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ImagesConfig.model_validate(values)


def test_data_travel_and_each_way_of_making_them_has_its_fingerprint(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_amats(tmp_path)
    found = [load("poisson", ImagesConfig()), load("poisson:unseen=noise_2", ImagesConfig())]
    found += [
        load(f"mnist:{tmp_path}", ImagesConfig.model_validate({"binarisation": way}))
        for way in ("static", "dynamic", "threshold")
    ]
    found += [load(f"binarised_mnist:{tmp_path}", ImagesConfig(size=size)) for size in (28, 32)]
    assert len({str(data.fingerprints()) for data in found}) == len(found)
    assert found[0].fingerprint() == found[1].fingerprint(), "what is unseen is not trained on"
    assert len({data.fingerprint() for data in found[1:]}) == len(found) - 1
    assert [pickle.loads(pickle.dumps(data)).fingerprints() for data in found] == [d.fingerprints() for d in found]
