//! The README's tutorial, run as a person would paste it: its blocks, in its order, in one shell, on the raw UCI files of
//! four hospitals. The estimates it delivers must be R's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::program;

/// Coefficients and standard errors of R 4.2.2 `glm` on the pooled rows (`heart_all920_logit_age_sex_cp`).
const REFERENCE: [(&str, f64, f64); 6] = [
    ("(Intercept)", -4.7118906148188, 0.655115212306696),
    ("age", 0.0578820561971075, 0.00934930960477587),
    ("sex", 1.52488483526926, 0.214903087094102),
    ("cp[2]", -1.22335265889394, 0.39532016456853),
    ("cp[3]", -0.203783549721983, 0.357208692690999),
    ("cp[4]", 1.69086594721666, 0.343421483483868),
];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Where test set-up put the raw files; `./test.sh` rebuilds them from PyPI.
pub fn heart_data() -> Option<PathBuf> {
    let set_up = std::env::var_os("LEBEN_HEART_DATA").map_or_else(|| root().join(".setup/heart-data"), PathBuf::from);
    let shared = std::env::var_os("LEBEN_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let found = [set_up, shared.join("data/fed_heart_disease")];
    found.into_iter().find(|folder| folder.join("processed.va.data").is_file())
}

/// The fenced blocks that have a name, in order.
fn blocks(readme: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = readme;
    while let Some(start) = rest.find("```sh ") {
        let block = &rest[start + 6..];
        let (name, block) = block.split_once('\n').unwrap();
        let end = block.find("```").unwrap();
        found.push((name.trim().to_owned(), block[..end].to_owned()));
        rest = &block[end..];
    }
    found
}

fn script(programs: &Path) -> String {
    let blocks = blocks(&fs::read_to_string(root().join("README.md")).unwrap());
    let names: Vec<&str> = blocks.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["build", "data", "coordinator", "hospitals", "team", "approve", "result", "stop"];
    assert_eq!(names, expected, "the tutorial's blocks");
    let mut script =
        format!("set -e\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\nexport PATH=\"{}:$PATH\"\n", programs.display());
    for (name, block) in &blocks {
        // What is built and fetched here was built and fetched by the test's set-up.
        if name != "build" && name != "data" {
            script.push_str(&format!("echo '== {name}'\n{block}\n"));
        }
        if name == "coordinator" {
            script.push_str("until grep -q 'listening on' deployment/coordinator.log; do sleep 0.1; done\n");
        }
    }
    script
}

#[test]
fn the_readme_tutorial_ends_in_the_estimates_of_r() {
    let Some(data) = heart_data() else {
        println!("SKIPPED: no raw UCI heart files; run ./test.sh, or python3 deploy/fetch_heart.py .setup/heart-data");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let heart = folder.path().join("heart-data");
    fs::create_dir(&heart).unwrap();
    for site in ["cleveland", "hungarian", "switzerland", "va"] {
        let name = format!("processed.{site}.data");
        fs::copy(data.join(&name), heart.join(&name)).unwrap();
    }
    for name in ["deploy", "client"] {
        std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).unwrap();
    }
    let script = script(program("leben").parent().unwrap());
    let ran = Command::new("timeout").args(["180", "bash", "-c", &script]).current_dir(folder.path()).output().unwrap();
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{out}\n{}", String::from_utf8_lossy(&ran.stderr));
    for said in [
        "fit to be used",
        "Delivered",
        "ok: evidence of",
        "ok: log of",
        "7 parties, 4 data sets, 1 contract; accounts balance",
    ] {
        assert!(out.contains(said), "the output lacks '{said}':\n{out}");
    }
    let table = fs::read_to_string(folder.path().join("deployment/result/coefficients.csv")).unwrap();
    for (term, estimate, se) in REFERENCE {
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("{term},")))
            .unwrap_or_else(|| panic!("{term}: {table}"));
        let values: Vec<f64> = row.split(',').skip(1).take(2).map(|cell| cell.parse().unwrap()).collect();
        assert!((values[0] / estimate - 1.0).abs() < 1e-9, "{term}: {} and {estimate}", values[0]);
        assert!((values[1] / se - 1.0).abs() < 1e-9, "{term}: {} and {se}", values[1]);
    }
    let picture = fs::read_to_string(folder.path().join("deployment/result/roc.svg")).unwrap();
    assert!(picture.contains("<svg") && picture.contains("<title"), "the ROC picture");
}
