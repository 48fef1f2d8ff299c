"""The pydicom plugin: what `Dataset.compress` makes with it, pydicom decodes to what went in."""

from __future__ import annotations

import copy
import importlib
import logging

import corpus
import numpy as np
import pydicom
import pytest
from pydicom import examples
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import JPEG2000Lossless, RLELossless

from node.pixels import plugin


@pytest.fixture(autouse=True)
def registered():
    plugin.register()
    yield
    RLELosslessEncoder.remove_plugin(plugin.NAME)


def compress(dataset, **options):
    compressed = copy.deepcopy(dataset)
    compressed.compress(
        RLELossless, encoding_plugin="dcmpress", generate_instance_uid=False, **options
    )
    return compressed


def test_importing_registers_nothing():
    RLELosslessEncoder.remove_plugin(plugin.NAME)
    importlib.reload(plugin)
    assert plugin.NAME not in RLELosslessEncoder.available_plugins
    plugin.register()


def test_registering_twice_is_registering_once():
    plugin.register()
    assert RLELosslessEncoder.available_plugins.count("dcmpress") == 1


def test_it_is_for_rle_only():
    assert plugin.is_available(RLELossless)
    assert not plugin.is_available(JPEG2000Lossless)


@pytest.mark.parametrize("name", ["ct", "mr", "rgb_color", "palette_color", "overlay"])
def test_pydicoms_examples_come_back(name):
    dataset = pydicom.dcmread(examples.get_path(name))
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress(generate_instance_uid=False)
    compressed = compress(dataset)
    assert np.array_equal(compressed.pixel_array, dataset.pixel_array)
    assert compressed.SOPInstanceUID == dataset.SOPInstanceUID


def rgb(planar: int):
    dataset = pydicom.dcmread(examples.get_path("rgb_color"))
    pixels = dataset.pixel_array
    dataset.PlanarConfiguration = planar
    ordered = pixels.transpose(2, 0, 1) if planar else pixels
    dataset.PixelData = ordered.tobytes()
    return dataset, pixels


@pytest.mark.parametrize("planar", [0, 1])
def test_planar_configuration_of_a_data_set(planar):
    dataset, pixels = rgb(planar)
    compressed = compress(dataset)
    compressed.PlanarConfiguration = 0
    assert np.array_equal(compressed.pixel_array, pixels)


@pytest.mark.parametrize("planar", [0, 1])
def test_an_array_has_its_samples_last(planar):
    dataset, pixels = rgb(planar)
    dataset.compress(RLELossless, pixels, encoding_plugin="dcmpress")
    assert np.array_equal(dataset.pixel_array, pixels)


def test_big_endian_if_pydicom_is_told():
    dataset = pydicom.dcmread(examples.get_path("mr"))
    pixels = dataset.pixel_array
    dataset.PixelData = pixels.astype(">i2").tobytes()
    assert np.array_equal(compress(dataset, byteorder=">").pixel_array, pixels)


def test_a_frame_that_pydicom_reduced_is_refused(caplog):
    dataset = pydicom.dcmread(examples.get_path("mr"))
    dataset.BitsStored, dataset.HighBit = 8, 7
    with (
        caplog.at_level(logging.CRITICAL, "pydicom"),
        pytest.raises(RuntimeError, match="Bits Stored is 8; expected 8192"),
    ):
        compress(dataset)


@pytest.mark.corpus
@pytest.mark.skipif(corpus.corpus_root() is None, reason=corpus.ABSENT)
def test_multi_frame_files_of_the_corpus():
    for row in corpus.native_rows():
        if row["frames"] in ("", "1") or row["bits_allocated"] == "32":
            continue
        if row["transfer_syntax"] == "Explicit VR Big Endian":
            continue  # pydicom does not tell a plugin
        dataset = corpus.read(row)
        assert np.array_equal(compress(dataset).pixel_array, dataset.pixel_array), row["path"]
