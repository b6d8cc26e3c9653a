//! A disk as POSIX promises it and no better: what was not fsynced may be missing after a power cut, in any combination.

use crate::strace::Call;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// Crash states looked at for one crash point at most; beyond it, the extremes and a random choice of the others.
const STATES_MAX: usize = 160;

/// A change of a folder, durable when that folder is fsynced.
#[derive(Debug, Clone)]
enum Change {
    Link { path: PathBuf, file: usize },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, file: usize },
    MakeDir { path: PathBuf },
    RemoveDir { path: PathBuf },
}

impl Change {
    fn folder(&self) -> &Path {
        let (Self::Link { path, .. } | Self::Unlink { path } | Self::MakeDir { path } | Self::RemoveDir { path }) =
            self
        else {
            let Self::Rename { to: path, .. } = self else { unreachable!() };
            return path.parent().unwrap();
        };
        path.parent().unwrap()
    }
}

#[derive(Debug, Clone, Default)]
struct File {
    /// What the last fsync made durable.
    durable: Vec<u8>,
    live: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
struct Tree {
    files: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
}

impl Tree {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Link { path, file } => drop(self.files.insert(path.clone(), *file)),
            Change::Unlink { path } => drop(self.files.remove(path)),
            Change::Rename { from, to, file } => {
                if self.files.get(from) == Some(file) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *file);
            }
            Change::MakeDir { path } => drop(self.folders.insert(path.clone())),
            Change::RemoveDir { path } => drop(self.folders.remove(path)),
        }
    }
}

/// The bytes of every file, and the folders, that a power cut leaves behind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wreck {
    files: BTreeMap<PathBuf, Vec<u8>>,
    folders: BTreeSet<PathBuf>,
}

impl Wreck {
    /// Writes it below another folder.
    pub fn lay_out(&self, root: &Path) {
        self.folders.iter().for_each(|folder| fs::create_dir(root.join(folder)).unwrap());
        self.files.iter().for_each(|(path, bytes)| fs::write(root.join(path), bytes).unwrap());
    }

    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(format!("{self:?}")).into()
    }

    pub fn names(&self) -> Vec<String> {
        self.files.iter().map(|(path, bytes)| format!("{} ({} bytes)", path.display(), bytes.len())).collect()
    }
}

/// Follows a recorded run.
#[derive(Clone)]
pub struct Disk {
    root: PathBuf,
    durable: Tree,
    live: Tree,
    pending: Vec<Change>,
    files: Vec<File>,
    dice: u64,
}

impl Disk {
    /// A disk whose content below `root` is all durable.
    pub fn new(root: &Path) -> Disk {
        let mut disk = Disk {
            root: root.to_path_buf(),
            durable: Tree::default(),
            live: Tree::default(),
            pending: Vec::new(),
            files: Vec::new(),
            dice: 1,
        };
        disk.read(root);
        disk.durable = disk.live.clone();
        disk
    }

    fn read(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&self.root).unwrap().to_path_buf();
            if path.is_dir() {
                self.live.folders.insert(name);
                self.read(&path);
            } else {
                let bytes = fs::read(&path).unwrap();
                self.live.files.insert(name, self.files.len());
                self.files.push(File { durable: bytes.clone(), live: bytes });
            }
        }
    }

    /// One call of the run. Whether it changed what a power cut could leave.
    pub fn handle(&mut self, call: &Call) -> bool {
        let name = |at: usize| call.paths[at].strip_prefix(&self.root).unwrap().to_path_buf();
        if !call.ok || call.name == "say" {
            return false;
        }
        match call.name.as_str() {
            "openat" => return self.open(name(0), &call.text),
            "write" => {
                let file = self.live.files[&name(0)];
                self.files[file].live.extend(&call.data);
            }
            "fsync" | "fdatasync" => self.sync(&name(0)),
            "rename" | "renameat" | "renameat2" => {
                let (from, to) = (name(0), name(1));
                assert_eq!(from.parent(), to.parent(), "within one folder, so that one fsync makes it durable");
                let file = self.live.files[&from];
                self.change(Change::Rename { from, to, file });
            }
            "mkdir" | "mkdirat" => self.change(Change::MakeDir { path: name(0) }),
            "unlink" => self.change(Change::Unlink { path: name(0) }),
            "rmdir" => self.change(Change::RemoveDir { path: name(0) }),
            "read" | "statx" | "newfstatat" | "getdents64" | "flock" => return false,
            other => panic!("{other} is not followed: {call:?}"),
        }
        true
    }

    fn open(&mut self, path: PathBuf, flags: &str) -> bool {
        if let Some(file) = self.live.files.get(&path) {
            let truncated = flags.contains("O_TRUNC");
            if truncated {
                self.files[*file].live.clear();
            }
            return truncated;
        }
        if !flags.contains("O_CREAT") {
            return false;
        }
        self.files.push(File::default());
        self.change(Change::Link { path, file: self.files.len() - 1 });
        true
    }

    fn change(&mut self, change: Change) {
        self.live.apply(&change);
        self.pending.push(change);
    }

    fn sync(&mut self, path: &Path) {
        if let Some(file) = self.live.files.get(path) {
            let file = &mut self.files[*file];
            file.durable.clone_from(&file.live);
            return;
        }
        for change in std::mem::take(&mut self.pending) {
            match change.folder() == path {
                true => self.durable.apply(&change),
                false => self.pending.push(change),
            }
        }
    }

    /// What is not durable yet, in words.
    pub fn unsynced(&self) -> Vec<String> {
        let dirty =
            self.files.iter().filter(|file| file.durable != file.live).map(|file| format!("{} bytes", file.live.len()));
        self.pending.iter().map(|change| format!("{change:?}")).chain(dirty).collect()
    }

    /// Every way in which a power cut now could leave the disk, or many of them.
    pub fn wrecks(&mut self) -> Vec<Wreck> {
        let dirty: Vec<usize> =
            (0..self.files.len()).filter(|file| self.files[*file].durable != self.files[*file].live).collect();
        let contents: HashMap<usize, Vec<Vec<u8>>> =
            dirty.iter().map(|file| (*file, contents(&self.files[*file]))).collect();
        let ways = contents.values().fold(1usize << self.pending.len().min(30), |ways, c| ways.saturating_mul(c.len()));
        let all = ways <= STATES_MAX;
        let count = if all { ways } else { STATES_MAX };
        let mut wrecks = Vec::with_capacity(count);
        for at in 0..count {
            // The first ones of a random choice: nothing, and everything, of what was not fsynced.
            let mut number = match (all, at) {
                (true, _) => at,
                (false, 0) => 0,
                (false, 1) => usize::MAX,
                (false, _) => self.roll(),
            };
            let mut pick = |options: usize| {
                let picked = number % options;
                number = if number == usize::MAX { number } else { number / options };
                picked
            };
            let mut tree = self.durable.clone();
            for change in &self.pending {
                if pick(2) == 1 {
                    tree.apply(change);
                }
            }
            let chosen: HashMap<usize, usize> = dirty.iter().map(|file| (*file, pick(contents[file].len()))).collect();
            wrecks.push(self.wreck(&tree, |file| match chosen.get(&file) {
                Some(picked) => contents[&file][*picked].clone(),
                None => self.files[file].durable.clone(),
            }));
        }
        wrecks
    }

    /// xorshift64*
    fn roll(&mut self) -> usize {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        usize::try_from(self.dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 2).unwrap()
    }

    fn wreck(&self, tree: &Tree, content: impl Fn(usize) -> Vec<u8>) -> Wreck {
        let stands = |path: &Path| {
            let mut above = path.ancestors().skip(1);
            above.all(|folder| folder.as_os_str().is_empty() || tree.folders.contains(folder))
        };
        Wreck {
            folders: tree.folders.iter().filter(|folder| stands(folder)).cloned().collect(),
            files: tree
                .files
                .iter()
                .filter(|(path, _)| stands(path))
                .map(|(path, file)| (path.clone(), content(*file)))
                .collect(),
        }
    }
}

/// What a file may hold whose last bytes were not fsynced: the old, the new, nothing, half of it, zeros of the right length.
fn contents(file: &File) -> Vec<Vec<u8>> {
    let half = file.live[..file.live.len() / 2].to_vec();
    let mut all = vec![file.durable.clone(), Vec::new(), half, vec![0; file.live.len()], file.live.clone()];
    let mut seen = BTreeSet::new();
    all.retain(|bytes| seen.insert(bytes.clone()));
    all
}
