//! What the documents say is there, is there.

use crate::{assert_none, packages, source};
use serde_json::Value;

const DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"];

#[test]
fn links_between_our_files_lead_somewhere() {
    let mut complaints = Vec::new();
    for document in DOCUMENTS {
        let text = source::read(document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or("");
            if !path.is_empty() && !path.contains("://") && !source::root().join(path).exists() {
                complaints.push(format!("{document}: ({link}) leads nowhere"));
            }
        }
    }
    assert_none(&complaints, "Mend the link, or write the file.");
}

#[test]
fn commands_in_the_readme_exist() {
    let packages = packages();
    let binaries: Vec<_> = packages.iter().flat_map(binaries).collect();
    let is_package = |name: &str| packages.iter().any(|package| package["name"] == name);
    let mut complaints = Vec::new();
    for line in shell_lines(&source::read("README.md")) {
        let words: Vec<_> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let is_missing = match pair[0] {
                "--bin" => !binaries.iter().any(|name| name == pair[1]),
                "-p" if words[0] == "cargo" => !is_package(pair[1]),
                "python3" | "bash" => !pair[1].starts_with('-') && !source::root().join(pair[1]).is_file(),
                _ => false,
            };
            if is_missing {
                complaints.push(format!("README.md: `{line}`: no {}", pair[1]));
            }
        }
        let program = words[0].rsplit('/').next().unwrap_or("");
        let is_missing_script = words[0].starts_with("./") && !source::root().join(words[0]).exists();
        let is_ours = program.starts_with("leben");
        if is_ours && !binaries.iter().any(|name| name == program) || !is_ours && is_missing_script {
            complaints.push(format!("README.md: `{line}`: no program {program}"));
        }
    }
    assert_none(&complaints, "A command that a person may paste has to exist.");
}

fn binaries(package: &Value) -> Vec<String> {
    let targets = package["targets"].as_array().unwrap().iter();
    let binaries = targets.filter(|target| target["kind"].as_array().unwrap().iter().any(|kind| kind == "bin"));
    binaries.map(|target| target["name"].as_str().unwrap().to_owned()).collect()
}

/// The lines of the fenced `sh` blocks, comments and the insides of here-documents left out.
fn shell_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let (mut in_block, mut here_document) = (false, None);
    for line in text.lines().map(str::trim) {
        if let Some(end) = here_document {
            if line == end {
                here_document = None;
            }
        } else if line.starts_with("```") {
            in_block = !in_block && ["```sh", "```bash", "```shell"].contains(&line);
        } else if in_block && !line.is_empty() && !line.starts_with('#') {
            here_document = line.split("<<").nth(1).map(|rest| rest.trim_matches(['\'', '"', '-', ' ']));
            lines.push(line);
        }
    }
    lines
}

#[test]
fn architecture_says_what_each_library_is_for() {
    let architecture = source::read("ARCHITECTURE.md");
    let packages = packages();
    let is_ours = |name: &str| packages.iter().any(|package| package["name"] == name);
    let mut complaints = Vec::new();
    for package in &packages {
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap();
            if !is_ours(name) && !architecture.contains(&format!("`{name}`")) {
                complaints.push(format!("{} uses {name}", package["name"]));
            }
        }
    }
    complaints.sort();
    assert_none(&complaints, "Say in ARCHITECTURE.md, under Dependencies, what it is for.");
}

#[test]
fn every_folder_of_the_architecture_is_a_folder() {
    let architecture = source::read("ARCHITECTURE.md");
    for package in packages() {
        let manifest = package["manifest_path"].as_str().unwrap();
        let folder = manifest.rsplit('/').nth(1).unwrap();
        assert!(architecture.contains(&format!("\n{folder}/ ")), "ARCHITECTURE.md does not list the folder {folder}/");
    }
}
