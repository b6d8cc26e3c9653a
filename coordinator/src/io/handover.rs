//! `leben-coordinator handover`: a new coordinator goes on with the ledger of one that is lost, or not trusted any more.
//!
//! *Prepare* chooses the history and drafts the Handover, with keys that are made here; the hospitals compare it with what they hold and
//! sign (`leben-worker handover sign`). *Finish* lays the ledger out in this folder and sequences the Handover as its next entry, under the
//! new log key. The settings come last: until then the folder is no coordinator, and after a crash the same command begins again.
//!
//! ```text
//! source/          the copy that was chosen, whole and verified; hospitals that are behind compare with it
//! handover.json    the signed Handover, for hospitals and teams to follow
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::{Body, Founder, Handover};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::{PartyId, Role};
use leben_contracts::agreement::state::State;
use leben_contracts::handover::{self, Chosen, HandoverError, choose, promise, read_file};
use leben_contracts::ledger::action_file::ActionFile;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::note::{KeyType, NoteSigner};
use leben_contracts::ledger::policy::{POLICY_BYTES_MAX, Policy};
use leben_contracts::ledger::sequencer::Sequencer;
use leben_contracts::ledger::store::{LogStore, branch, durable_replace, export, read_at_most};

use super::clock::now_ms;
use super::config::Config;
use super::fatal::Fatal;
use super::rotation::Generation;
use super::{nonce, random};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What is prepared.
pub struct Wish<'a> {
    /// Copies of the ledger.
    pub from: &'a [PathBuf],
    /// The policy that the operator trusts.
    pub policy: Option<&'a Path>,
    /// The new coordinator's party; that of before when absent.
    pub party: Option<&'a str>,
    /// Days until enough hospitals have to have signed.
    pub days: u64,
    /// Where the Handover is written.
    pub out: &'a Path,
}

fn start(error: impl std::fmt::Display) -> Fatal {
    Fatal::Start(error.to_string())
}

fn is_free(dir: &Path) -> Result<(), Fatal> {
    match dir.join("coordinator.toml").exists() {
        true => Err(Fatal::Start(format!("{} holds a coordinator already; choose another --dir", dir.display()))),
        false => Ok(()),
    }
}

fn cleared(folder: PathBuf) -> Result<PathBuf, Fatal> {
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(folder),
    }
}

/// Chooses the history to go on with, makes keys, and drafts the Handover. Returns what to tell the operator.
///
/// # Errors
/// [`Fatal::Handover`] with its exit code; a proof of a fork is written beside the Handover.
pub fn prepare(dir: &Path, wish: &Wish<'_>) -> Result<String, Fatal> {
    is_free(dir)?;
    let policy = wish.policy.map(|path| read_at_most(path, POLICY_BYTES_MAX)).transpose().map_err(start)?;
    let policy = policy.map(|bytes| Policy::parse(&bytes)).transpose().map_err(start)?;
    let chosen = choose(wish.from, policy.as_ref()).map_err(|error| with_proof(error, wish.out))?;
    let log_key = make(dir, "log.key")?;
    for name in ["party.key", "link.key", "sealing.key"] {
        make(dir, name)?;
    }
    export(&chosen.dir, &cleared(dir.join("source"))?).map_err(start)?;
    let party = wish.party.or(chosen.state.coordinator().map(PartyId::as_str)).unwrap_or("coordinator");
    let file = draft(dir, &chosen, party, &log_key, wish.days)?;
    durable_replace(wish.out, &file.to_bytes()).map_err(start)?;
    Ok(prepared(dir, &chosen, wish, &file))
}

fn make(dir: &Path, name: &str) -> Result<SigningKey, Fatal> {
    keyfile::load_or_create(&dir.join("keys").join(name), &random()).map_err(start)
}

/// The proof of a fork becomes a file, if there is one.
fn with_proof(error: HandoverError, out: &Path) -> Fatal {
    if let HandoverError::Fork { evidence: Some(evidence), .. } = &error {
        let path = out.with_extension("fork.json");
        match durable_replace(&path, evidence.to_json().as_bytes()) {
            Ok(()) => eprintln!("the proof, for everybody (leben verify): {}", path.display()),
            Err(error) => eprintln!("the proof could not be written: {error}"),
        }
    }
    error.into()
}

fn draft(dir: &Path, chosen: &Chosen, party: &str, log_key: &SigningKey, days: u64) -> Result<ActionFile, Fatal> {
    let (party, keys) = (PartyId::new(party).map_err(start)?, Generation::load(&dir.join("keys"))?);
    let public = keys.public();
    let body = Body::from(Handover {
        coordinator: Founder { party: party.clone(), keys: public.keys, sealing: public.sealing },
        size: chosen.checkpoint.size,
        root: Hash32(chosen.checkpoint.root),
        log_key: PublicKey::of(log_key),
    });
    let valid_ms = days.saturating_mul(DAY_MS);
    let header = Header { actor: &party, role: Role::Coordinator, now_ms: now_ms(), valid_ms, nonce: nonce() };
    let action = chosen.state.draft(&body, None, &header).map_err(start)?;
    let mut file = ActionFile::draft(&action).map_err(start)?;
    file.sign(&keys.party).map_err(start)?;
    handover::check(&chosen.state, &file, now_ms())?;
    Ok(file)
}

fn prepared(dir: &Path, chosen: &Chosen, wish: &Wish<'_>, file: &ActionFile) -> String {
    let mut text = String::new();
    for (at, (copy, size)) in chosen.copies.iter().enumerate() {
        let what = if at == 0 { "verified   " } else { "agrees     with the first " };
        let _ = writeln!(text, "{what}{size} entries: {}", copy.display());
    }
    let (size, out) = (chosen.checkpoint.size, wish.out.display());
    let _ = writeln!(text, "goes on    from {size} entries, cosigned by {}", chosen.cosigners.join(", "));
    if let Some(promise) = promise(&chosen.state) {
        let _ = writeln!(text, "promise    {}", promise.to_text().replace('\n', "\n           "));
        if chosen.copies.len() < promise.k {
            let _ = writeln!(
                text,
                "NOTE       {} of at least {} copies were given: a hospital that holds more will refuse to sign, and this has to be prepared \
                 again with its copy",
                chosen.copies.len(),
                promise.k
            );
        }
    }
    text.push_str(
        "           What was cosigned but not stored by a quorum was never acknowledged as final: it may be missing. Whoever holds more\n           \
         (a team's export) can give it with --from.\n",
    );
    if wish.policy.is_none() {
        text.push_str(
            "NOTE       without --policy the copies vouch for themselves: compare the origin and the names below\n",
        );
    }
    text.push_str(&chosen.state.action_text(file, now_ms()));
    let _ = writeln!(
        text,
        "\nnext: each hospital freezes (leben-worker handover freeze) and signs (leben-worker handover sign {out}), then:"
    );
    let _ = write!(text, "  leben-coordinator --dir {} handover finish {out}", dir.display());
    text
}

/// Makes this folder the coordinator that the hospitals have signed for.
///
/// # Errors
/// [`Fatal::Handover`], [`Fatal::Start`]; the folder is no coordinator then.
pub fn finish(dir: &Path, path: &Path) -> Result<String, Fatal> {
    is_free(dir)?;
    let (file, body) = read_file(path)?;
    let chosen = choose(&[dir.join("source")], None)?;
    if let Some(lacks) = handover::check(&chosen.state, &file, now_ms())? {
        return Err(Fatal::Start(format!("{lacks}; hand {} on", path.display())));
    }
    let keys = Generation::load(&dir.join("keys"))?.public();
    let log_key = keyfile::load(&dir.join("keys/log.key")).map_err(start)?;
    if PublicKey::of(&log_key) != body.log_key || keys.keys != body.coordinator.keys {
        let words = format!("{} is for other keys than those in {}", path.display(), dir.join("keys").display());
        return Err(Fatal::Start(words));
    }
    let (origin, party) = (chosen.checkpoint.origin.clone(), body.coordinator.party.clone());
    take_over(dir, chosen, log_key, &file)?;
    let bytes = file.to_bytes();
    durable_replace(&dir.join("handover.json"), &bytes).map_err(start)?;
    // Last: a folder without settings is not a coordinator.
    let template = Config::template(&origin, party.as_str());
    durable_replace(&dir.join("coordinator.toml"), template.as_bytes()).map_err(start)?;
    Ok(format!(
        "the ledger of {origin} goes on in {}: entry {} is the Handover\nnext: look at {}, then: leben-coordinator --dir {} serve\n\
         each hospital: leben-worker handover follow handover.json --address <host:port>\neach team and admin: leben follow handover.json \
         --address <host:port>\nThe Handover is final, and the network goes on, when a quorum of the hospitals follows.",
        dir.display(),
        body.size,
        dir.join("coordinator.toml").display(),
        dir.display()
    ))
}

/// The ledger's files, and the Handover behind them.
fn take_over(dir: &Path, chosen: Chosen, log_key: SigningKey, file: &ActionFile) -> Result<(), Fatal> {
    let signer = NoteSigner::new(&chosen.checkpoint.origin, KeyType::Ed25519, log_key).map_err(start)?;
    let (public, private) = (cleared(dir.join("ledger"))?, cleared(dir.join("state"))?);
    let log = signer.vkey().clone();
    let keys = [vec![log.clone()], chosen.state.log_vkeys()].concat();
    branch(&chosen.dir, &public, &private, &keys).map_err(start)?;
    let mut store = LogStore::open(&public, &private, &log).map_err(start)?;
    // A quorum has signed that it goes on from here: nobody of before it has to say so as well.
    store.remember_turn(chosen.checkpoint.size).map_err(start)?;
    let Chosen { checkpoint, state, .. } = chosen;
    let follower: Follower<State> = Follower::resume(&checkpoint.origin, checkpoint.size, state.now_ms(), state);
    let mut sequencer = Sequencer::new(signer, store.builder().map_err(start)?, follower).map_err(start)?;
    let envelope = file.clone().into_envelope().map_err(start)?;
    let staged = sequencer.stage(now_ms(), &[envelope.to_bytes()]).map_err(start)?;
    for result in staged.results {
        result.map_err(start)?;
    }
    match &staged.batch {
        Some(batch) => store.commit(batch).map_err(start),
        None => Err(Fatal::Start("the Handover is in this ledger already".into())),
    }
}
