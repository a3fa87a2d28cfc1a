import pytest

import deep_delta.spectral as spectral


@pytest.mark.parametrize("name", spectral.__all__)
def test_every_public_name_is_there(name):
    assert hasattr(spectral, name)
    assert name in dir(spectral)


def test_another_name_is_not():
    with pytest.raises(AttributeError, match=r"'deep_delta\.spectral' has no attribute 'colect'"):
        _ = spectral.colect
