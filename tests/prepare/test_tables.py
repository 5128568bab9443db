import pytest

from medvlp.errors import NotFoundError
from medvlp.prepare.tables import require_table


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("t.csv.zip", "holds neither t.csv nor t.csv.gz. Unpack 't.csv.zip'."),
        ("deeper/t.csv", "It lies in '{root}/deeper': give that folder."),
        ("deeper/t.csv.gz", "It lies in '{root}/deeper': give that folder."),
        ("other.csv", "holds neither t.csv nor t.csv.gz. Get it."),
    ],
)
def test_a_missing_table_that_is_near(tmp_path, place, advice):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).touch()
    with pytest.raises(NotFoundError) as error:
        require_table(tmp_path, "t", "Get it.")
    assert advice.format(root=tmp_path) in str(error.value)


def test_a_table_in_gzip(tmp_path):
    (tmp_path / "t.csv.gz").touch()
    assert require_table(tmp_path, "t", "Get it.") == tmp_path / "t.csv.gz"
