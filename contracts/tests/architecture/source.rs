//! Reads the workspace's files, and Rust files with comments and literals blanked, so that a word in a comment or in a
//! message is never taken for code.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Folders that hold what tools made, not what we wrote.
const NOT_OURS: [&str; 4] = [".git", ".setup", "leben-demo", "__pycache__"];

/// One Rust file of the workspace.
pub struct RustFile {
    /// Relative to the workspace, with `/`.
    pub path: String,
    pub text: String,
    /// Same length and lines as the text; comments, strings and characters are spaces.
    pub code: String,
    /// The code without items under `#[cfg(test)]`; all spaces in a file that only tests use.
    pub production: String,
    /// Lines that are not part of a test module.
    pub production_lines: usize,
}

/// The workspace's folder: the nearest one above this crate with ARCHITECTURE.md.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().find(|folder| folder.join("ARCHITECTURE.md").is_file()).unwrap().to_path_buf()
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file whose name ends in one of the endings, sorted by its path relative to the workspace.
pub fn files(endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    let mut found: Vec<_> = found
        .iter()
        .map(|path| path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/"))
        .filter(|path| endings.iter().any(|ending| path.ends_with(ending)))
        .collect();
    found.sort();
    found
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if NOT_OURS.contains(&name.as_str()) || name == "target" || name.starts_with("target-") {
            continue;
        }
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

pub fn rust_files() -> Vec<RustFile> {
    files(&[".rs"]).into_iter().map(RustFile::read).collect()
}

impl RustFile {
    fn read(path: String) -> RustFile {
        let text = read(&path);
        let code = blank_comments_and_literals(&text);
        let production = if is_test_file(&path) { blank_all(&code) } else { blank_test_items(&code) };
        let production_lines = production_lines(&path, &code);
        RustFile { path, text, code, production, production_lines }
    }

    /// Line number, from 1, of a byte position in the code.
    pub fn line(&self, position: usize) -> usize {
        self.code[..position].matches('\n').count() + 1
    }

    /// The file is part of a shell: it may touch sockets, disks and clocks.
    pub fn is_shell(&self) -> bool {
        let within = self.path.split_once('/').map_or("", |(_, rest)| rest);
        let shell = ["src/io/", "src/io.rs", "src/main.rs", "src/bin/", "build.rs", "tests/", "benches/"];
        shell.iter().any(|start| within.starts_with(start))
    }
}

pub fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs")
}

/// Where the word stands in the code, not inside a longer name.
pub fn find_word(code: &str, word: &str) -> Vec<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| !code[..at].chars().next_back().is_some_and(is_name))
        .filter(|&at| !code[at + word.len()..].chars().next().is_some_and(is_name))
        .collect()
}

/// The position just behind the bracket that closes the one at `open`.
pub fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (offset, c) in code[open..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return open + offset + 1;
        }
    }
    code.len()
}

fn blank_all(code: &str) -> String {
    code.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

fn blank_test_items(code: &str) -> String {
    let mut kept = code.to_owned();
    for range in test_items(code) {
        kept.replace_range(range.clone(), &blank_all(&code[range]));
    }
    kept
}

fn production_lines(path: &str, code: &str) -> usize {
    if is_test_file(path) {
        return 0;
    }
    let tests: usize = test_items(code).map(|range| code[range].matches('\n').count() + 1).sum();
    code.lines().count().saturating_sub(tests)
}

fn test_items(code: &str) -> impl Iterator<Item = Range<usize>> {
    let starts = code.match_indices("#[cfg(").map(|(at, _)| at);
    starts.filter_map(|at| {
        let attribute_end = closing(code, at + 1);
        let is_test = !find_word(&code[at..attribute_end], "test").is_empty();
        is_test.then(|| at..item_end(code, attribute_end))
    })
}

/// The end of the item that starts at `from`: its closing brace, or its semicolon.
pub fn item_end(code: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(c) = code[at..].chars().next() {
        match c {
            '{' => return closing(code, at),
            ';' => return at + 1,
            '(' | '[' => at = closing(code, at),
            _ => at += c.len_utf8(),
        }
    }
    code.len()
}

/// Replaces comments, string, byte and character literals by as many spaces, line breaks kept.
pub fn blank_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let length = literal_or_comment(rest, before).unwrap_or(0);
        if length == 0 {
            code.push(c);
            before = c;
            rest = &rest[c.len_utf8()..];
        } else {
            let blanks = rest[..length].chars().flat_map(|c| {
                let blank = if c == '\n' { '\n' } else { ' ' };
                std::iter::repeat_n(blank, c.len_utf8())
            });
            code.extend(blanks);
            before = ' ';
            rest = &rest[length..];
        }
    }
    code
}

/// Bytes of the comment or literal at the start of `rest`, if there is one.
fn literal_or_comment(rest: &str, before: char) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    if before.is_alphanumeric() || before == '_' {
        return None;
    }
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix("cr")).or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inside = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let inside_length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(rest.len() - inside.len() + inside_length)
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let mut following = rest.chars().skip(1);
    let first = following.next()?;
    (first == '\\' || following.next() == Some('\'')).then(|| quoted(rest, '\''))
}

#[test]
fn comments_and_literals_are_blanked_and_code_is_kept() {
    let text = "let a = \"// {\"; /* { /* } */ */ let b: &'static str = r#\"\"{\"#; // }\nlet c = '\\''; let d = b'{';";
    let code = blank_comments_and_literals(text);
    assert_eq!(code.len(), text.len());
    let words: Vec<_> = code.split_whitespace().collect();
    assert_eq!(words.join(" "), "let a = ; let b: &'static str = ; let c = ; let d = b ;");
}

#[test]
fn test_modules_do_not_count_as_production() {
    let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
    assert!(find_word(&blank_test_items(code), "b").is_empty());
    assert_eq!(find_word(&blank_test_items(code), "c").len(), 1);
    assert_eq!(production_lines("x/src/lib.rs", code), 2);
}
