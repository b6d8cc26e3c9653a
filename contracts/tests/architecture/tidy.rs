//! Habits that a reader relies on, each as a test with a message.

use crate::source::{self, RustFile, find_word};
use crate::{assert_none, packages};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// The crate with the one folder that may hold `unsafe`, and that folder.
const KERNEL_CRATE: &str = "leben-privacy";
const KERNEL: &str = "privacy/src/kernel/";

/// Files that may be longer, each with the reason. None so far.
const LONG_FILES: [(&str, &str); 0] = [];

#[test]
fn files_stay_short() {
    let is_allowed = |path: &str| LONG_FILES.iter().any(|(file, _)| *file == path);
    let mut complaints = Vec::new();
    for file in source::rust_files() {
        if file.production_lines > FILE_LINES_MAX && !is_allowed(&file.path) {
            complaints.push(format!("{}: {} lines without its tests", file.path, file.production_lines));
        }
    }
    assert_none(&complaints, "A file over 400 lines holds two ideas: give the second its own file.");
}

#[test]
fn functions_fit_on_a_screen() {
    let mut complaints = Vec::new();
    for file in source::rust_files() {
        for (line, name, lines) in functions(&file) {
            if lines > FUNCTION_LINES_MAX {
                complaints.push(format!("{}:{line}: fn {name} has {lines} lines of code", file.path));
            }
        }
    }
    assert_none(&complaints, "A function over 70 lines tells more than one story: name its steps.");
}

/// Line, name, and lines of code in the body of each function outside tests; blank lines and comments do not count.
fn functions(file: &RustFile) -> Vec<(usize, String, usize)> {
    let code = &file.production;
    let mut found = Vec::new();
    for at in find_word(code, "fn") {
        let name: String =
            code[at + 2..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let end = source::item_end(code, at);
        if name.is_empty() || !code[at..end].ends_with('}') {
            continue;
        }
        let lines = code[at..end].lines().filter(|line| !line.trim().is_empty()).count();
        found.push((file.line(at), name, lines));
    }
    found
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("TO", "DO"),
    ];
    let mut complaints = Vec::new();
    for path in source::files(&[".rs", ".toml", ".sh", ".py", ".md", ".html", ".js", ".css", ".ci/run"]) {
        for (number, line) in source::read(&path).lines().enumerate() {
            if marks.iter().any(|mark| !find_word(line, mark).is_empty() || mark.ends_with('(') && line.contains(mark))
            {
                complaints.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(&complaints, "Finish it, or file an issue and take the mark out.");
}

#[test]
fn every_exception_from_a_lint_gives_its_reason() {
    let mut complaints = Vec::new();
    for file in source::rust_files() {
        let lines: Vec<_> = file.text.lines().collect();
        for word in ["allow", "expect"] {
            for at in find_word(&file.code, word).into_iter().filter(|&at| is_lint_attribute(&file.code, at, word)) {
                let line = file.line(at) - 1;
                let end = source::closing(&file.code, at + word.len());
                let has_reason = file.text[at..end].contains("reason =");
                let is_comment = |line: &str| line.trim_start().starts_with("//");
                let has_comment = lines[line].contains("//") || line > 0 && is_comment(lines[line - 1]);
                if !has_reason && !has_comment {
                    complaints.push(format!("{}:{}: {}", file.path, line + 1, lines[line].trim()));
                }
            }
        }
    }
    assert_none(&complaints, "Write why: #[allow(the_lint, reason = \"..\")]");
}

/// `allow(` or `expect(` inside `#[..]` or `#![..]`, not a method of that name.
fn is_lint_attribute(code: &str, at: usize, word: &str) -> bool {
    let line_start = code[..at].rfind('\n').map_or(0, |end| end + 1);
    let before = code[line_start..at].trim_start();
    let opens = before.starts_with("#[") || before.starts_with("#![");
    opens && !before.contains(']') && code[at + word.len()..].starts_with('(')
}

#[test]
fn every_exception_in_deny_toml_gives_its_reason() {
    let mut complaints = Vec::new();
    for (number, line) in source::read("deny.toml").lines().enumerate() {
        let is_entry = line.trim_start().starts_with('{');
        let reason = line.split("reason = \"").nth(1).unwrap_or("");
        if is_entry && reason.split_whitespace().count() < 4 {
            complaints.push(format!("deny.toml:{}: {}", number + 1, line.trim()));
        }
        if line.contains("RUSTSEC-") && !is_entry {
            complaints.push(format!("deny.toml:{}: write it as {{ id = \"..\", reason = \"..\" }}", number + 1));
        }
    }
    assert_none(&complaints, "An ignored advisory says why it does not hurt us.");
}

#[test]
fn everything_from_outside_comes_from_one_registry() {
    let lock = source::read("Cargo.lock");
    let sources = lock.lines().filter(|line| line.starts_with("source = "));
    let strange: Vec<_> =
        sources.filter(|line| !line.contains("\"registry+") || !line.ends_with("crates.io-index\"")).collect();
    let strange: Vec<_> = strange.into_iter().map(str::to_owned).collect();
    assert_none(&strange, "Take it from crates.io, with a version.");
}

#[test]
fn crates_take_their_lints_and_their_versions_from_the_workspace() {
    let mut complaints = Vec::new();
    for package in packages() {
        let manifest = package["manifest_path"].as_str().unwrap();
        let text = std::fs::read_to_string(manifest).unwrap();
        let lints = if package["name"] == KERNEL_CRATE { kernel_lints() } else { "[lints]\nworkspace = true".into() };
        if !text.contains(&lints) {
            complaints.push(format!("{manifest}: these lints are missing:\n{lints}"));
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["req"] == "*" && dependency["path"].is_null() {
                complaints.push(format!("{manifest}: {} has no version", dependency["name"]));
            }
        }
    }
    assert_none(&complaints, "Every crate of ours is held to the same lints, every library to a version.");
}

/// The workspace's lints, with `unsafe_code` denied where it is forbidden elsewhere, so that one folder can allow it for itself.
fn kernel_lints() -> String {
    let root = source::read("Cargo.toml");
    let table = |name: &str| {
        let start = root.find(&format!("[workspace.lints.{name}]\n")).unwrap();
        let lines = root[start..].lines().skip(1).take_while(|line| !line.is_empty());
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let rust =
        table("rust").replace("unsafe_code = \"forbid\"", "unsafe_code = \"deny\"\nunsafe_op_in_unsafe_fn = \"deny\"");
    let strict = "undocumented_unsafe_blocks = \"deny\"\nmultiple_unsafe_ops_per_block = \"deny\"";
    format!("[lints.rust]\n{rust}\n[lints.clippy]\n{strict}\n{}", table("clippy"))
}

#[test]
fn unsafe_stays_in_the_kernel() {
    assert!(source::read("Cargo.toml").contains("unsafe_code = \"forbid\""));
    let mut complaints = Vec::new();
    let mut inside = 0;
    for file in source::rust_files() {
        let found = find_word(&file.code, "unsafe");
        let allows = find_word(&file.code, "unsafe_code");
        if file.path.starts_with(KERNEL) {
            inside += found.len();
            continue;
        }
        complaints.extend(found.iter().chain(&allows).map(|at| format!("{}:{}", file.path, file.line(*at))));
    }
    assert!(inside > 0, "{KERNEL} holds no unsafe code any more: take the exception out");
    assert_none(&complaints, "Only the vector kernel may, and it has its own page about why that is sound.");
}
