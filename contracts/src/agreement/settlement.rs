//! Who is paid what: a pure function of the terms, the receipts and the arbiters' decision.
//!
//! A share is a split of the total. Without a price per round, an owner earns its share by the stages that read its data and list
//! it in their receipts; everybody else by all stages done. With one, the earned total is that price times the rounds done. What is
//! not earned goes back to the payer. Sums are exact: shares sum to the total, postings and the return to what was held.

use super::accounts::{Accounts, Transfer};
use super::body::{Posting, Settle};
use super::contract::Contract;
use super::terms::Price;

/// Splits an amount by basis points so that the parts sum to it: each part is rounded down, and the rest goes one credit each to the
/// largest remainders, earlier splits first.
#[must_use]
pub fn shares(price: &Price, amount: u64) -> Vec<u64> {
    let scaled = |basis_points: u32| u128::from(amount) * u128::from(basis_points);
    let mut parts: Vec<u64> = price.splits.iter().map(|s| narrow(scaled(s.basis_points) / 10_000)).collect();
    let sum = parts.iter().fold(0u64, |a, b| a.saturating_add(*b));
    let mut order: Vec<usize> = (0..price.splits.len()).collect();
    let remainder = |i: &usize| price.splits.get(*i).map_or(0, |s| scaled(s.basis_points) % 10_000);
    order.sort_by_key(|i| std::cmp::Reverse(remainder(i)));
    let left = usize::try_from(amount.saturating_sub(sum)).unwrap_or(usize::MAX);
    for i in order.into_iter().take(left) {
        if let Some(part) = parts.get_mut(i) {
            *part = part.saturating_add(1);
        }
    }
    parts
}

/// What each split has earned so far, and what would go back.
#[must_use]
pub fn settlement(contract: &Contract) -> Settle {
    let price = &contract.terms.price;
    let full = shares(price, price.total_credits);
    let forfeited = contract.resolved.is_some_and(|r| r.forfeit_deposit);
    let deposits = shares(price, if forfeited { price.deposit } else { 0 });
    let mut postings = Vec::with_capacity(price.splits.len());
    let mut paid = 0u64;
    for ((split, share), deposit) in price.splits.iter().zip(full).zip(deposits) {
        let (done, stages, rounds) = work_done(contract, &split.party);
        let earned = match price.per_round {
            0 => ratio(share, done, stages),
            per_round => {
                let total = per_round.saturating_mul(rounds).min(price.total_credits);
                ratio(share, total, price.total_credits)
            }
        };
        let credits = ratio(earned, u64::from(contract.paid_basis_points()), 10_000).saturating_add(deposit);
        paid = paid.saturating_add(credits);
        postings.push(Posting { party: split.party.clone(), credits });
    }
    let held = contract.funding.as_ref().map_or(0, |f| f.credits);
    Settle { postings, returned: held.saturating_sub(paid) }
}

/// Stages done, stages that count, rounds done, for one party.
fn work_done(contract: &Contract, party: &super::party::PartyId) -> (u64, u64, u64) {
    let owner = contract.owners().contains(party);
    let (mut done, mut stages, mut rounds) = (0u64, 0u64, 0u64);
    for stage in &contract.terms.stages {
        if owner && !contract.terms.stage_owners(stage).contains(party) {
            continue;
        }
        stages = stages.saturating_add(1);
        let receipt = contract.receipt(stage.id).filter(|r| !owner || r.hospitals.contains(party));
        if let Some(receipt) = receipt {
            done = done.saturating_add(1);
            rounds = rounds.saturating_add(u64::from(receipt.rounds));
        }
    }
    (done, stages, rounds)
}

fn ratio(amount: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    narrow(u128::from(amount) * u128::from(part.min(whole)) / u128::from(whole))
}

fn narrow(n: u128) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// The transfers that close a contract: holds on credits are posted as earned if `pay`, else voided; reservations of privacy budget
/// are posted by what the receipts say. A stage that started without a receipt counts as having spent everything.
#[must_use]
pub fn closing_transfers(contract: &Contract, accounts: &Accounts, now_ms: u64, pay: bool) -> Vec<Transfer> {
    let mut transfers = Vec::new();
    let earned = settlement(contract);
    for (hold, posting) in contract.funding.iter().flat_map(|f| &f.holds).zip(&earned.postings) {
        end_hold(&mut transfers, accounts, now_ms, hold, if pay { posting.credits } else { 0 });
    }
    for (key, reservation) in &contract.reservations {
        end_hold(
            &mut transfers,
            accounts,
            now_ms,
            &reservation.hold,
            epsilon_used(contract, key, reservation.epsilon_micro),
        );
    }
    transfers
}

/// What a data set's budget must be charged at least, in millionths of epsilon, of what was reserved.
#[must_use]
pub fn epsilon_used(contract: &Contract, dataset: &str, reserved_micro: u64) -> u64 {
    let reads = |input: &&super::terms::Input| super::contract::dataset_key(&input.owner, &input.dataset) == dataset;
    let inputs: Vec<_> = contract.terms.inputs.iter().filter(reads).collect();
    let mut used = 0u64;
    for stage in contract.terms.stages.iter().filter(|s| inputs.iter().any(|i| s.inputs.contains(&i.id))) {
        let spent = match contract.stages.get(&stage.id).map(|p| &p.receipt) {
            None => 0,
            Some(None) => reserved_micro,
            Some(Some(receipt)) => receipt.epsilon_micro_spent,
        };
        used = used.saturating_add(spent);
    }
    used.min(reserved_micro)
}

/// Ends a hold, unless it has ended already or times out by itself at this very entry.
pub(super) fn end_hold(transfers: &mut Vec<Transfer>, accounts: &Accounts, now_ms: u64, hold: &str, amount: u64) {
    let Some(pending) = accounts.pending(hold) else { return };
    if pending.timeout_ms.is_some_and(|due_ms| due_ms <= now_ms) {
        return;
    }
    let id = hold.to_owned();
    transfers.push(if amount == 0 { Transfer::Void { id } } else { Transfer::PostHeld { id, amount } });
}
