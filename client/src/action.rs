//! Actions of an AI team: made from where the ledger stands, signed, ready to be appended.

use std::collections::BTreeSet;

use leben_contracts::agreement::body::{
    Accept, AcceptResult, Body, BodyError, Freeze, Fund, KeyRevoke, PartyEnrol, PolicyChange, Propose, quorum,
};
use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::{ContractId, Hash32};
use leben_contracts::agreement::party::{OrgKind, PartyId, Role};
use leben_contracts::agreement::state::State;
use leben_contracts::agreement::terms::Terms;
use leben_contracts::ledger::action_file::ActionFile;
use leben_contracts::ledger::canonical::CanonicalError;
use leben_contracts::ledger::entry::{EntryError, Envelope};
use leben_protocol::invite::code_hash;

use crate::home::Home;

/// How long an action may wait for its place on the ledger, milliseconds: a coordinator that restarts, a quorum that is away.
pub const VALID_MS: u64 = 60 * 60 * 1000;

/// How long an action that several people sign may be on its way between them, milliseconds: a week.
pub const GATHER_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// Why an action cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// A body out of range.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// An action out of range or too large.
    #[error("the action cannot be signed: {0}")]
    Entry(#[from] EntryError),
    /// Terms with numbers beyond 2^53.
    #[error("the terms cannot be hashed: {0}")]
    Terms(#[from] CanonicalError),
    /// Terms that do not fit.
    #[error(
        "this contract has too many hospitals or columns for one ledger entry: it would be {bytes} bytes, an entry takes {bytes_max}. Ask for \
         fewer columns, or split it into several contracts over fewer hospitals"
    )]
    TooLong {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Validators that cannot be.
    #[error("{0}")]
    Validators(String),
    /// An invite whose code cannot be hashed.
    #[error("the invite's code cannot be used; ask for a new invite")]
    Code,
}

/// What an action needs beside its content: the clock and 16 fresh random bytes.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// Unix milliseconds.
    pub now_ms: u64,
    /// Never used twice.
    pub nonce: [u8; 16],
}

/// Joins the network with the code of an invite.
///
/// # Errors
/// [`ActionError`].
pub fn enrol(home: &Home, code: &str, fresh: Fresh) -> Result<Envelope, ActionError> {
    let body = PartyEnrol {
        party: home.party().clone(),
        kind: OrgKind::Team,
        roles: vec![Role::DataUser],
        keys: home.public_keys(),
        sealing: home.sealing_public(),
        invite_hash: code_hash(code).parse::<Hash32>().map_err(|_| ActionError::Code)?,
    };
    step(home, &State::new(&home.network().origin), None, body, fresh)
}

/// The same for an admin, whom another admin countersigns: an action file to hand on.
///
/// # Errors
/// [`ActionError`].
pub fn enrol_admin(home: &Home, code: &str, fresh: Fresh) -> Result<ActionFile, ActionError> {
    let body = PartyEnrol {
        party: home.party().clone(),
        kind: OrgKind::Team,
        roles: vec![Role::Admin],
        keys: home.public_keys(),
        sealing: home.sealing_public(),
        invite_hash: code_hash(code).parse::<Hash32>().map_err(|_| ActionError::Code)?,
    };
    let state = State::new(&home.network().origin);
    let mut file = draft(home, &state, Role::Admin, body, GATHER_MS, fresh)?;
    file.sign(home.party_key())?;
    Ok(file)
}

/// New keys for this party, signed by the old party key and the new one; `None` if no rotation waits.
///
/// # Errors
/// [`ActionError`].
pub fn rotate(home: &Home, state: &State, fresh: Fresh) -> Result<Option<Envelope>, ActionError> {
    let Some((body, new)) = home.rotation() else { return Ok(None) };
    let mut file = draft(home, state, own_role(home, state), body, VALID_MS, fresh)?;
    file.sign(home.party_key())?;
    if new.verifying_key() != home.party_key().verifying_key() {
        file.sign(new)?;
    }
    Ok(Some(file.into_envelope()?))
}

/// Withdraws a party's keys: this home's own, or, as an admin, somebody's; not signed yet.
///
/// # Errors
/// [`ActionError`].
pub fn revoke(
    home: &Home,
    state: &State,
    body: KeyRevoke,
    valid_ms: u64,
    fresh: Fresh,
) -> Result<ActionFile, ActionError> {
    let own = body.party == *home.party();
    let role = if own { own_role(home, state) } else { Role::Admin };
    draft(home, state, role, body, valid_ms, fresh)
}

/// The validators in force with some more and without some, for [`policy_change`].
///
/// # Errors
/// [`ActionError::Validators`]: nothing would change.
pub fn validators(state: &State, add: &[PartyId], drop: &[PartyId]) -> Result<PolicyChange, ActionError> {
    let now = state.policy().map_or_else(Vec::new, |policy| policy.validators.clone());
    let unfit = |why: &str, party: &PartyId| Err(ActionError::Validators(format!("{party} {why}")));
    if let Some(party) = drop.iter().find(|party| !now.contains(party)) {
        return unfit("does not cosign", party);
    }
    let without_key = |party: &&PartyId| state.keys(party.as_str()).is_none_or(|keys| keys.validator.is_none());
    if let Some(party) = add.iter().find(without_key) {
        return unfit("is not enrolled with a validator key", party);
    }
    let stays = now.iter().filter(|party| !drop.contains(party));
    let next: BTreeSet<PartyId> = stays.chain(add).cloned().collect();
    if next.iter().eq(&now) {
        return Err(ActionError::Validators("it changes nothing: name hospitals with --add or --drop".into()));
    }
    let too_many = |_| ActionError::Validators("too many".into());
    Ok(PolicyChange { quorum: u32::try_from(quorum(next.len())).map_err(too_many)?, validators: Vec::from_iter(next) })
}

/// Changes who cosigns; not signed yet.
///
/// # Errors
/// [`ActionError`].
pub fn policy_change(
    home: &Home,
    state: &State,
    body: PolicyChange,
    valid_ms: u64,
    fresh: Fresh,
) -> Result<ActionFile, ActionError> {
    draft(home, state, Role::Admin, body, valid_ms, fresh)
}

/// Stops the ledger; not signed yet.
///
/// # Errors
/// [`ActionError`].
pub fn freeze(
    home: &Home,
    state: &State,
    body: Freeze,
    valid_ms: u64,
    fresh: Fresh,
) -> Result<ActionFile, ActionError> {
    draft(home, state, own_role(home, state), body, valid_ms, fresh)
}

/// A role that this party holds, for what it does in no role in particular.
fn own_role(home: &Home, state: &State) -> Role {
    let held = state.party(home.party().as_str()).and_then(|party| party.roles.first().copied());
    held.unwrap_or(Role::DataUser)
}

fn draft(
    home: &Home,
    state: &State,
    role: Role,
    body: impl Into<Body>,
    valid_ms: u64,
    fresh: Fresh,
) -> Result<ActionFile, ActionError> {
    let header = Header { actor: home.party(), role, now_ms: fresh.now_ms, valid_ms, nonce: fresh.nonce };
    Ok(ActionFile::draft(&state.draft(&body.into(), None, &header)?)?)
}

fn step(
    home: &Home,
    state: &State,
    contract: Option<&ContractId>,
    body: impl Into<Body>,
    fresh: Fresh,
) -> Result<Envelope, ActionError> {
    let Fresh { now_ms, nonce } = fresh;
    let header = Header { actor: home.party(), role: Role::DataUser, now_ms, valid_ms: VALID_MS, nonce };
    let action = state.draft(&body.into(), contract, &header)?;
    Ok(Envelope::sign(&action, &[home.party_key()])?)
}

/// Proposes terms. The contract's id is the envelope's payload hash.
///
/// # Errors
/// [`ActionError`].
pub fn propose(home: &Home, state: &State, terms: &Terms, fresh: Fresh) -> Result<Envelope, ActionError> {
    match step(home, state, None, Propose { terms: terms.clone() }, fresh) {
        Err(ActionError::Entry(EntryError::TooLarge { bytes, bytes_max })) => {
            Err(ActionError::TooLong { bytes, bytes_max })
        }
        other => other,
    }
}

/// Signs the terms on the table. A team decides by no local policy: the policy's hash is that of an empty text.
///
/// # Errors
/// [`ActionError`].
pub fn accept(home: &Home, state: &State, contract: &Contract, fresh: Fresh) -> Result<Envelope, ActionError> {
    let (terms_hash, terms_version) = (contract.terms_hash, contract.terms_version);
    let body = Accept { terms_hash, terms_version, policy_hash: Hash32::plain(b"") };
    step(home, state, Some(&contract.id), body, fresh)
}

/// Holds the price and the deposit. The ledger takes it once everybody has signed.
///
/// # Errors
/// [`ActionError`].
pub fn fund(home: &Home, state: &State, contract: &Contract, fresh: Fresh) -> Result<Envelope, ActionError> {
    step(home, state, Some(&contract.id), Fund { amount: price(&contract.terms) }, fresh)
}

/// Takes the result as delivered.
///
/// # Errors
/// [`ActionError`].
pub fn accept_result(home: &Home, state: &State, contract: &Contract, fresh: Fresh) -> Result<Envelope, ActionError> {
    step(home, state, Some(&contract.id), AcceptResult {}, fresh)
}

/// Total and deposit, credits.
pub fn price(terms: &Terms) -> u64 {
    terms.price.total_credits.saturating_add(terms.price.deposit)
}
