use super::*;
use proptest::prelude::*;

fn party(n: usize) -> AccountId {
    AccountId::credits(&PartyId::new(&format!("p{n}")).unwrap())
}

fn world() -> Accounts {
    let mut a = Accounts::default();
    a.open(AccountId::outside(Unit::Credits), Unit::Credits, false);
    a.open(AccountId::outside(Unit::MicroEpsilon), Unit::MicroEpsilon, false);
    (0..3).for_each(|n| a.open(party(n), Unit::Credits, true));
    a
}

fn now(a: &mut Accounts, now_ms: u64, t: &[Transfer]) -> Result<(), AccountError> {
    let plan = a.plan(now_ms, t)?;
    a.commit(plan);
    a.verify_balanced().unwrap();
    Ok(())
}

fn deposit(to: usize, amount: u64) -> Transfer {
    Transfer::Post { debit: AccountId::outside(Unit::Credits), credit: party(to), amount }
}

fn hold(id: &str, from: usize, to: usize, amount: u64, timeout_ms: Option<u64>) -> Transfer {
    Transfer::Hold { id: id.into(), pending: Pending { debit: party(from), credit: party(to), amount, timeout_ms } }
}

#[test]
fn a_hold_is_posted_in_part_once() {
    let mut a = world();
    now(&mut a, 0, &[deposit(0, 100), hold("h", 0, 1, 60, None)]).unwrap();
    assert_eq!(a.get(&party(0)).unwrap().available(), 40);
    let too_much = Transfer::PostHeld { id: "h".into(), amount: 61 };
    assert_eq!(now(&mut a, 0, &[too_much]), Err(AccountError::MoreThanHeld { held: 60, amount: 61 }));
    now(&mut a, 0, &[Transfer::PostHeld { id: "h".into(), amount: 25 }]).unwrap();
    assert_eq!((a.get(&party(0)).unwrap().available(), a.get(&party(1)).unwrap().available()), (75, 25));
    let again = now(&mut a, 0, &[Transfer::Void { id: "h".into() }]);
    assert_eq!(again, Err(AccountError::NoHold("h".into())));
}

#[test]
fn a_hold_times_out_at_its_own_time_and_frees_its_amount() {
    let mut a = world();
    now(&mut a, 0, &[deposit(0, 10), hold("h", 0, 1, 10, Some(50))]).unwrap();
    assert!(matches!(a.plan(49, &[hold("i", 0, 2, 1, None)]), Err(AccountError::Overdrawn { .. })));
    now(&mut a, 50, &[hold("i", 0, 2, 10, None)]).unwrap();
    assert_eq!(a.pending("h"), None);
    assert_eq!(a.plan(50, &[Transfer::Void { id: "h".into() }]).err(), Some(AccountError::NoHold("h".into())));
}

#[test]
fn linked_transfers_happen_all_or_not_at_all() {
    let mut a = world();
    now(&mut a, 0, &[deposit(0, 10)]).unwrap();
    let before = a.clone();
    let bad = [hold("a", 0, 1, 6, None), hold("b", 0, 2, 6, None)];
    assert!(matches!(now(&mut a, 0, &bad), Err(AccountError::Overdrawn { available: 4, amount: 6, .. })));
    assert_eq!(a, before);
}

#[test]
fn each_error_by_name() {
    let mut a = world();
    let epsilon = AccountId::outside(Unit::MicroEpsilon);
    let post = |debit, credit, amount| [Transfer::Post { debit, credit, amount }];
    let outside = AccountId::outside(Unit::Credits);
    assert!(matches!(a.plan(0, &post(outside.clone(), party(9), 1)), Err(AccountError::NoAccount(_))));
    assert!(matches!(a.plan(0, &post(outside.clone(), epsilon, 1)), Err(AccountError::Mismatch(..))));
    assert!(matches!(a.plan(0, &post(outside.clone(), outside.clone(), 1)), Err(AccountError::Mismatch(..))));
    assert!(matches!(a.plan(0, &[deposit(0, 0)]), Err(AccountError::Zero)));
    assert!(matches!(a.plan(0, &[deposit(0, u64::MAX)]), Err(AccountError::Overflow(_))));
    assert!(matches!(a.plan(0, &[Transfer::Void { id: "x".into() }]), Err(AccountError::NoHold(_))));
    now(&mut a, 0, &[deposit(0, 5), hold("h", 0, 1, 1, None)]).unwrap();
    assert!(matches!(a.plan(0, &[hold("h", 0, 1, 1, None)]), Err(AccountError::HoldExists(_))));
    assert!(matches!(a.plan(0, &[Transfer::PostHeld { id: "h".into(), amount: 0 }]), Err(AccountError::Zero)));
}

fn any_transfer() -> impl Strategy<Value = Transfer> {
    let amount = prop_oneof![0u64..50, Just(u64::MAX)];
    prop_oneof![
        (0..3usize, amount.clone()).prop_map(|(to, n)| deposit(to, n)),
        (0..3usize, 0..3usize, amount.clone()).prop_map(|(f, t, amount)| Transfer::Post {
            debit: party(f),
            credit: party(t),
            amount
        }),
        (0..6u8, 0..3usize, 0..3usize, amount.clone(), prop::option::of(0u64..40))
            .prop_map(|(id, f, t, n, timeout)| hold(&id.to_string(), f, t, n, timeout)),
        (0..6u8, amount).prop_map(|(id, amount)| Transfer::PostHeld { id: id.to_string(), amount }),
        (0..6u8).prop_map(|id| Transfer::Void { id: id.to_string() }),
    ]
}

proptest! {
    /// Against a second, naive ledger that keeps every movement as a line and sums them.
    #[test]
    fn sums_hold_after_every_batch(batches in prop::collection::vec(prop::collection::vec(any_transfer(), 1..4), 1..30)) {
        let mut a = world();
        let mut net = BTreeMap::<AccountId, i128>::new();
        let mut resolved = BTreeSet::new();
        for (t, batch) in batches.iter().enumerate() {
            let before = a.clone();
            if now(&mut a, t as u64, batch).is_err() {
                prop_assert_eq!(&a, &before);
                continue;
            }
            for transfer in batch {
                let line = match transfer {
                    Transfer::Post { debit, credit, amount } => Some((debit.clone(), credit.clone(), *amount)),
                    Transfer::PostHeld { id, amount } => {
                        prop_assert!(resolved.insert(id.clone()), "a hold ended twice");
                        let held = before.pending(id).cloned().or_else(|| batch.iter().find_map(|b| match b {
                            Transfer::Hold { id: i, pending } if i == id => Some(pending.clone()),
                            _ => None,
                        })).unwrap();
                        Some((held.debit, held.credit, *amount))
                    }
                    Transfer::Void { id } => { prop_assert!(resolved.insert(id.clone())); None }
                    // Here a name may come again; in the ledger none does.
                    Transfer::Hold { id, .. } => { resolved.remove(id); None }
                    Transfer::Open { .. } => None,
                };
                if let Some((debit, credit, amount)) = line {
                    *net.entry(debit).or_default() -= i128::from(amount);
                    *net.entry(credit).or_default() += i128::from(amount);
                }
            }
            for n in 0..3 {
                let account = a.get(&party(n)).unwrap();
                let posted = i128::from(account.credits_posted) - i128::from(account.debits_posted);
                prop_assert_eq!(posted, net.get(&party(n)).copied().unwrap_or(0));
                prop_assert!(posted >= i128::from(account.debits_pending), "overdrawn");
            }
            let held_out: u64 = a.pending.values().map(|p| p.amount).sum();
            let pending: u64 = a.iter().map(|(_, x)| x.debits_pending).sum();
            prop_assert_eq!(held_out, pending);
        }
    }
}
