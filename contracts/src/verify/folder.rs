//! Verification of a published folder: every file, every byte.
//!
//! Order: which files are there; policy; checkpoint, signatures, quorum; every entry hashed, every tile recomputed and compared, the root; then
//! freshness; then, over entries now known to be the log's own, the replay, with the certificate of every turn on its way.

use super::turns::{Certificates, check_known};
use super::{VerifyError, check_fresh};
use crate::ledger::Replay;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::follow::{Follower, Refusal};
use crate::ledger::merkle::Hash;
use crate::ledger::note::{NOTE_BYTES_MAX, Note, VerifierKey};
use crate::ledger::policy::{POLICY_BYTES_MAX, Policy, Satisfied, UnknownSigners};
use crate::ledger::prepare;
use crate::ledger::store::{BUNDLE_BYTES_MAX, read_at_most};
use crate::ledger::tile::{Builder, TILE_WIDTH, TileFile, TileKind, TilePath, decode_bundle, path_at, paths};
use crate::ledger::turn::{self, Turns};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Bundles read, and their signatures computed, at once.
const BUNDLES_AT_ONCE: usize = 16;

/// What to check a folder against.
#[derive(Default)]
pub struct Options<'a> {
    /// The policy the reader trusts. Without it the folder's own `policy` file is used, which proves only that the folder is
    /// consistent with itself. With a state machine it may be any policy that was once in force: certificates lead from it to the
    /// one at the end. Without one it must be the folder's own.
    pub policy: Option<Policy>,
    /// The reader's clock (Unix milliseconds) and the greatest age of the quorum's cosignatures, in milliseconds.
    pub freshness: Option<(u64, u64)>,
    /// A checkpoint of the same log that the reader kept from before: the folder must extend it.
    pub known: Option<Note>,
    /// The folder is a log's or a mirror's own, in which tiles may lie beyond the checkpoint: they are left out of account. Without it they
    /// are refused, since nothing vouches for them.
    pub growing: bool,
    /// The state machine, at its start. Without it entries are opaque bytes.
    pub replay: Option<&'a mut dyn Replay>,
    /// Told now and then how far the work is: for a long log.
    pub progress: Option<&'a mut dyn FnMut(Progress)>,
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// `hashed` or `replayed`: each entry is once the one and once the other.
    pub what: &'static str,
    /// Entries so far.
    pub done: u64,
    /// Entries in all.
    pub total: u64,
}

/// What a good folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint everything was checked against.
    pub checkpoint: Checkpoint,
    /// Who cosigned it, by name in the policy, with the time each stated (Unix seconds).
    pub cosigners: Vec<(String, u64)>,
    /// Observers that cosigned it and that the folder's own policy names, not the reader's: nobody the reader trusts says who they are.
    pub outside: Vec<(String, u64)>,
    /// Whether the policy was the reader's own.
    pub policy_was_given: bool,
    /// Files read.
    pub files: usize,
    /// Entries replayed; 0 without a state machine.
    pub replayed: u64,
}

/// Verifies a published log.
///
/// Memory: 4,096 entries, the right edge, and what the replay keeps; time is linear in the entries. Signatures are computed on every core.
///
/// # Errors
/// The first [`VerifyError`] found; its exit code says of which kind.
pub fn verify_folder(dir: &Path, options: Options<'_>) -> Result<Report, VerifyError> {
    let (mut tiles, mut certificates) = (BTreeSet::new(), Vec::new());
    let (mut files, mut has_policy) = (0, false);
    walk(dir, "", &mut |name| {
        files += 1;
        match name {
            "checkpoint" => {}
            "policy" => has_policy = true,
            _ if turn::size_of_path(name).is_some() => certificates.extend(turn::size_of_path(name)),
            _ => drop(tiles.insert(TilePath::parse(name).map_err(|_| unknown_file(name))?)),
        }
        Ok(())
    })?;
    let policy_was_given = options.policy.is_some();
    let policy = choose_policy(dir, &options, has_policy)?;
    let note =
        Note::parse(&read(dir, "checkpoint", NOTE_BYTES_MAX)?).map_err(|e| VerifyError::malformed("checkpoint", e))?;
    let satisfied =
        policy.evaluate(&note, UnknownSigners::Refuse).map_err(|error| VerifyError::policy("checkpoint", &error))?;
    // The roots that are asked for below are kept while the entries are hashed: read again, a tile might no longer be what was compared.
    let known = options.known.as_ref().and_then(|note| Checkpoint::of(note).ok()).map(|kept| kept.size);
    let roots = certificates.iter().copied().chain(known).map(|size| (size, None)).collect();
    let mut folder = Folder { dir, tiles, size: satisfied.checkpoint.size, bundles: Vec::new(), roots };
    let mut quiet = |_: Progress| {};
    let tell: &mut dyn FnMut(Progress) = options.progress.unwrap_or(&mut quiet);
    if options.growing {
        folder.tiles.retain(|tile| tile.width <= reached(tile, folder.size));
        certificates.retain(|size| *size <= folder.size);
    }
    folder.check_present()?;
    folder.check_tree(&satisfied.checkpoint, tell)?;
    check_known(&folder, [Some(&policy), options.policy.as_ref()], &satisfied.checkpoint, options.known.as_ref())?;
    check_fresh("checkpoint", &policy, &satisfied.cosigners, options.freshness)?;
    let outside: BTreeSet<String> = options.policy.as_ref().map(|given| outside(&policy, given)).unwrap_or_default();
    let certificates = Certificates::read(&folder, &satisfied.checkpoint, &certificates, options.policy)?;
    let replayed = match options.replay {
        Some(replay) => folder.replay(&satisfied.checkpoint.origin, replay, &policy, certificates, tell)?,
        None => 0,
    };
    let Satisfied { checkpoint, cosigners, .. } = satisfied;
    let (outside, cosigners) = cosigners.into_iter().partition(|(name, _)| outside.contains(name));
    Ok(Report { checkpoint, cosigners, outside, policy_was_given, files, replayed })
}

/// Names of the observers in `used` that the reader's policy does not know.
fn outside(used: &Policy, given: &Policy) -> BTreeSet<String> {
    let known = |vkey: &VerifierKey| given.witnesses().any(|(_, listed, _)| listed == vkey);
    used.observers().filter(|vkey| !known(vkey)).map(|vkey| vkey.name().to_owned()).collect()
}

fn walk(dir: &Path, prefix: &str, found: &mut dyn FnMut(&str) -> Result<(), VerifyError>) -> Result<(), VerifyError> {
    if prefix.len() > 200 {
        return Err(VerifyError::malformed(prefix, "folders are nested deeper than a log's"));
    }
    let io = |e| VerifyError::malformed(dir.display(), format!("cannot be listed: {e}"));
    let mut entries = fs::read_dir(dir).map_err(io)?.collect::<Result<Vec<_>, _>>().map_err(io)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name =
            name.to_str().ok_or_else(|| VerifyError::malformed(name.to_string_lossy(), "the name is not UTF-8"))?;
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(io)?;
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), found)?;
        } else if kind.is_file() {
            found(&path)?;
        } else {
            return Err(VerifyError::malformed(path, "is neither a file nor a folder; a published log holds no links"));
        }
    }
    Ok(())
}

fn unknown_file(name: &str) -> VerifyError {
    VerifyError::malformed(name, "does not belong in a published log; remove it, or find out who put it there")
}

pub(super) fn read(dir: &Path, name: &str, bytes_max: usize) -> Result<Vec<u8>, VerifyError> {
    read_at_most(&dir.join(name), bytes_max).map_err(|e| VerifyError::malformed(name, e))
}

/// The policy for the checkpoint at the end: the folder's own where there is one, else the reader's.
fn choose_policy(dir: &Path, options: &Options<'_>, has_file: bool) -> Result<Policy, VerifyError> {
    let Some(given) = &options.policy else {
        let missing = || "is missing, and none was given; pass the policy file that you trust";
        return read_policy(dir, has_file)?.ok_or_else(|| VerifyError::malformed("policy", missing()));
    };
    match read_policy(dir, has_file)? {
        Some(file) if file.without_observers() == given.without_observers().for_logs_of(&file) => {
            // Outside witnesses come and go without changing who makes an entry final: the folder may name others than the reader.
            Ok(given.for_logs_of(&file).with_observers(file.observers()))
        }
        Some(_) if options.replay.is_none() => Err(another_policy()),
        Some(file) => Ok(file),
        None => Ok(given.clone()),
    }
}

fn read_policy(dir: &Path, has_file: bool) -> Result<Option<Policy>, VerifyError> {
    if !has_file {
        return Ok(None);
    }
    let bytes = read(dir, "policy", POLICY_BYTES_MAX)?;
    let policy = Policy::parse(&bytes).map_err(|e| VerifyError::policy("policy", &e))?;
    if policy.to_string().as_bytes() != bytes {
        return Err(VerifyError::malformed("policy", "is not in the plain spelling in which the log writes it"));
    }
    Ok(Some(policy))
}

pub(super) fn another_policy() -> VerifyError {
    VerifyError::Quorum {
        place: "policy".to_owned(),
        why: "the folder's policy is not the one given, and no certificate leads from that one to it; ask the hospitals which one \
              is in force"
            .to_owned(),
    }
}

/// How wide this tile is in a log of `size` entries; 0 if it has none of it.
fn reached(tile: &TilePath, size: u64) -> u64 {
    path_at(tile.kind, tile.index, size).map_or(0, |p| p.width)
}

pub(super) struct Folder<'a> {
    pub(super) dir: &'a Path,
    tiles: BTreeSet<TilePath>,
    pub(super) size: u64,
    /// Digest of each bundle as it was hashed into the tree, so that the replay reads the same bytes.
    bundles: Vec<Hash>,
    /// The roots of the sizes that a certificate or the reader names, as computed from the entries.
    roots: BTreeMap<u64, Option<Hash>>,
}

impl Folder<'_> {
    fn check_present(&self) -> Result<(), VerifyError> {
        for tile in &self.tiles {
            if tile.width > reached(tile, self.size) {
                let why = format!(
                    "goes beyond the checkpoint of {} entries, so nothing vouches for it; verify an export (`leben ledger export`) if the log is being written",
                    self.size
                );
                return Err(VerifyError::malformed(tile, why));
            }
        }
        for path in paths(self.size) {
            if !self.tiles.contains(&path) {
                let why = format!("is missing from a log of {} entries; fetch the folder again", self.size);
                return Err(VerifyError::malformed(path, why));
            }
        }
        Ok(())
    }

    /// Appends every entry to an empty log, and compares what that writes with what lies here.
    fn check_tree(&mut self, checkpoint: &Checkpoint, tell: &mut dyn FnMut(Progress)) -> Result<(), VerifyError> {
        let mut builder = Builder::default();
        self.keep_root(&builder);
        for index in 0.. {
            let Some(path) = path_at(TileKind::Entries, index, self.size) else { break };
            let bytes = self.read_tile(&path)?;
            self.bundles.push(Sha256::digest(&bytes).into());
            for entry in decode_bundle(&bytes, path.width).map_err(|e| VerifyError::malformed(path, e))? {
                builder.append(entry).map_err(|e| VerifyError::malformed(path, e))?;
                self.keep_root(&builder);
            }
            for file in builder.take_full() {
                self.compare(&file)?;
            }
            tell(Progress { what: "hashed", done: builder.tree().size(), total: self.size });
        }
        let root = builder.tree().root();
        for file in builder.take_files() {
            self.compare(&file)?;
        }
        if root != checkpoint.root {
            let why = "the entries and tiles fit each other, and do not lead to the signed root: they are not what was signed";
            return Err(VerifyError::inclusion("checkpoint", why));
        }
        Ok(())
    }

    fn keep_root(&mut self, builder: &Builder) {
        if let Some(root) = self.roots.get_mut(&builder.tree().size()) {
            *root = Some(builder.tree().root());
        }
    }

    /// The root of the log's first `size` entries; `size` is one of those that were to be kept.
    pub(super) fn root_at(&self, size: u64) -> Result<Hash, VerifyError> {
        let why = || VerifyError::malformed(format!("the first {size} entries"), "their root was not computed");
        self.roots.get(&size).copied().flatten().ok_or_else(why)
    }

    fn read_tile(&self, path: &TilePath) -> Result<Vec<u8>, VerifyError> {
        read(self.dir, &path.to_string(), BUNDLE_BYTES_MAX)
    }

    /// Compares a computed tile with its file, and with every shorter partial of the same tile that still lies here.
    fn compare(&self, file: &TileFile) -> Result<(), VerifyError> {
        let shorter = TilePath { width: 1, ..file.path }..file.path;
        for path in self.tiles.range(shorter).chain([&file.path]) {
            let found = self.read_tile(path)?;
            let expected = beginning(file, path.width);
            if found != expected {
                return Err(differs(path, &found, expected));
            }
        }
        Ok(())
    }

    fn replay(
        &self,
        origin: &str,
        replay: &mut dyn Replay,
        policy: &Policy,
        mut certificates: Certificates,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<u64, VerifyError> {
        let mut turns = Turns::new(replay.policy());
        let mut follower = Follower::new(origin, replay);
        for first in (0..self.bundles.len()).step_by(BUNDLES_AT_ONCE) {
            let leaves = self.leaves(first)?;
            for entry in prepare::entries(&leaves, follower.replay()) {
                let index = follower.next_index();
                let place = || format!("entry {index}");
                let entry = entry.map_err(|e| VerifyError::malformed(place(), e))?;
                follower.apply(&entry).map_err(|refusal| match refusal {
                    Refusal::Malformed(e) => VerifyError::malformed(place(), e),
                    Refusal::Signature(why) => VerifyError::Signature { place: place(), why },
                    other => VerifyError::State { index, why: other.to_string() },
                })?;
                if let Some(turn) = turns.step(&entry.action().kind, || follower.replay().policy()) {
                    certificates.check(self, index, &turn)?;
                }
            }
            tell(Progress { what: "replayed", done: follower.next_index(), total: self.size });
        }
        if turns.policy().is_some_and(|in_force| *in_force != policy.without_observers()) {
            let why =
                "the ledger's own entries put another policy in force; ask the hospitals which one holds".to_owned();
            return Err(VerifyError::Quorum { place: "policy".to_owned(), why });
        }
        certificates.finish(policy)?;
        Ok(follower.next_index())
    }

    /// The entries of the next few bundles, which must be the bytes that were hashed.
    fn leaves(&self, first: usize) -> Result<Vec<Vec<u8>>, VerifyError> {
        let mut leaves = Vec::new();
        for (index, digest) in (0..).zip(&self.bundles).skip(first).take(BUNDLES_AT_ONCE) {
            let Some(path) = path_at(TileKind::Entries, index, self.size) else { break };
            let bytes = self.read_tile(&path)?;
            if Sha256::digest(&bytes).as_slice() != digest {
                return Err(VerifyError::malformed(
                    path,
                    "changed while it was being verified; verify a copy that nobody writes to",
                ));
            }
            leaves.extend(decode_bundle(&bytes, path.width).map_err(|e| VerifyError::malformed(path, e))?);
        }
        Ok(leaves)
    }
}

/// The first `width` hashes, or the first `width` entries, of a computed tile.
fn beginning(file: &TileFile, width: u64) -> &[u8] {
    let width = usize::try_from(width.min(TILE_WIDTH)).unwrap_or(usize::MAX);
    let end = match file.path.kind {
        TileKind::Hashes(_) => width.saturating_mul(32),
        TileKind::Entries => {
            (0..width).fold(0usize, |at, _| match file.bytes.get(at..).and_then(<[u8]>::first_chunk::<2>) {
                Some(len) => at.saturating_add(2).saturating_add(usize::from(u16::from_be_bytes(*len))),
                None => at,
            })
        }
    };
    file.bytes.get(..end.min(file.bytes.len())).unwrap_or_default()
}

fn differs(path: &TilePath, found: &[u8], expected: &[u8]) -> VerifyError {
    if found.len() != expected.len() {
        let why = format!("is {} bytes and should be {}; it was cut, extended or swapped", found.len(), expected.len());
        return VerifyError::malformed(path, why);
    }
    let at = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let place = match path.kind {
        TileKind::Entries => {
            return VerifyError::inclusion(path, format!("byte {at} is not that of the longer bundle"));
        }
        TileKind::Hashes(level) => {
            (level, u64::try_from(at / 32).unwrap_or(0).saturating_add(path.index.saturating_mul(TILE_WIDTH)))
        }
    };
    let why = match place {
        (0, entry) => format!(
            "entry {entry} and its hash here disagree: one of the two was altered; fetch the folder again from another place"
        ),
        (level, node) => format!(
            "hash {node} of level {level} does not follow from the level below: this tile was altered; fetch it again"
        ),
    };
    VerifyError::inclusion(path, why)
}
