//! One privacy budget for all jobs over a data set, also where later jobs depend on earlier results.
//!
//! For each Renyi order the divergences of everything released are summed and held against a cap: `cap(a)` is what
//! converts to the lifetime (epsilon, delta_a). For one order this is a valid filter under adaptive choice of the
//! mechanisms *and* of their parameters (Feldman and Zrnic 2021, arXiv:2008.11193, theorem 4.3; Lecuyer 2021,
//! arXiv:2103.01379), and for jobs that run at the same time (Haney et al. 2023, arXiv:2309.05901). Something fits where
//! **some** order has room. Which order that is may depend on results, so delta is divided among the orders: the sum
//! over the orders of what each can leak is then at most (epsilon, delta). Few orders cost little.
//!
//! A reservation counts in full from the moment it is made. Steps that ran stay counted for ever; what never ran is
//! given back. So at every moment some order has `spent + reserved <= cap`.
//!
//! All amounts are integers: millionths of a divergence, costs rounded up, caps rounded down.
//!
//! # How it corresponds to the ledger
//!
//! | ledger body (contracts, `agreement::body_money`) | here |
//! |---|---|
//! | `BudgetGenesis { rows_floor, epsilon_micro_limit, delta_e12 }` | [`Filter::genesis`] with the same limits |
//! | `BudgetReserve { epsilon_micro }`, the terms' epsilon | [`Filter::reserve`] with the curve of all rounds of the terms |
//! | `BudgetSpend { epsilon_micro }`, at least what the receipts say | [`Filter::spend`] for each step, then [`Filter::close`] |
//! | `BudgetRelease`, only if nothing ran | [`Filter::close`] with nothing spent |
//!
//! The ledger adds epsilons of jobs: basic composition, a valid filter by itself (Rogers et al. 2016,
//! arXiv:1605.08294) whose deltas add up as well. This filter is the hospital's own and tighter; a job needs both.

use serde::{Deserialize, Serialize};

use super::rdp::{Curve, Orders, cost_of_conversion};
use super::{DpError, check_delta, micro_up};

/// Largest number of orders of a filter: each takes its share of delta.
pub const FILTER_ORDERS_MAX: usize = 16;

/// What one job may still release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    id: String,
    /// Divergence of all steps, millionths, per order.
    total_micro: Vec<u64>,
    steps: u64,
    steps_spent: u64,
}

impl Held {
    /// Cost of the first `steps` steps at an order, rounded up.
    fn cost(&self, total_micro: u64, steps: u64) -> u64 {
        if total_micro == u64::MAX {
            return if steps == 0 { 0 } else { u64::MAX };
        }
        let product = u128::from(total_micro) * u128::from(steps);
        u64::try_from(product.div_ceil(u128::from(self.steps.max(1)))).unwrap_or(u64::MAX)
    }
}

/// The state of a budget. Serialisable; the hospital writes it down before it acts on a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    epsilon_micro: u64,
    delta_e12: u64,
    /// Orders in thousandths, strictly increasing.
    orders_milli: Vec<u32>,
    /// Spent by jobs that are closed, millionths, per order.
    closed_micro: Vec<u64>,
    held: Vec<Held>,
    /// Rises with every change: of two copies the higher one is newer.
    generation: u64,
}

impl Filter {
    /// A new budget. `orders_milli` are Renyi orders in thousandths, from 1001 up; [`Filter::default_orders`] suits
    /// most.
    ///
    /// # Errors
    /// [`DpError::Epsilon`], [`DpError::Delta`], [`DpError::Orders`]; [`DpError::NoEpsilon`] where no order leaves
    /// anything to spend.
    pub fn genesis(epsilon_micro: u64, delta_e12: u64, orders_milli: Vec<u32>) -> Result<Self, DpError> {
        let closed_micro = vec![0; orders_milli.len()];
        let filter = Filter { epsilon_micro, delta_e12, orders_milli, closed_micro, held: Vec::new(), generation: 0 };
        filter.check()?;
        Ok(filter)
    }

    /// The order at which the budget holds most Gaussian noise, one below and one above.
    ///
    /// # Errors
    /// [`DpError::Epsilon`], [`DpError::Delta`].
    pub fn default_orders(epsilon_micro: u64, delta_e12: u64) -> Result<Vec<u32>, DpError> {
        let (epsilon, delta) = limits(epsilon_micro, delta_e12)?;
        let room = |order: u32| (epsilon - cost_of_conversion(f64::from(order), delta / 3.0)) / f64::from(order);
        let best = (3..=256).max_by(|a, b| room(*a).total_cmp(&room(*b))).unwrap_or(4);
        Ok(vec![600 * best, 1000 * best, 1800 * best])
    }

    /// Checks a state that was read back.
    ///
    /// # Errors
    /// As [`Filter::genesis`]; [`DpError::State`].
    pub fn check(&self) -> Result<(), DpError> {
        limits(self.epsilon_micro, self.delta_e12)?;
        let rising = self.orders_milli.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        if self.orders_milli.is_empty() || self.orders_milli.len() > FILTER_ORDERS_MAX || !rising {
            return Err(DpError::Orders);
        }
        self.orders()?;
        if self.caps()?.iter().all(|cap| *cap == 0) {
            return Err(DpError::NoEpsilon(self.delta()));
        }
        let orders = self.orders_milli.len();
        if self.closed_micro.len() != orders || self.held.iter().any(|h| h.total_micro.len() != orders) {
            return Err(DpError::State("number of orders"));
        }
        if self.held.iter().any(|h| h.steps == 0 || h.steps_spent > h.steps) {
            return Err(DpError::State("steps of a reservation"));
        }
        let mut ids: Vec<_> = self.held.iter().map(|h| h.id.as_str()).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(DpError::State("two reservations of one name"));
        }
        if !self.has_room(&self.counted()) {
            return Err(DpError::State("more reserved than the limit"));
        }
        Ok(())
    }

    /// The orders, for making curves.
    ///
    /// # Errors
    /// [`DpError::Order`] for a stored order of one or less.
    pub fn orders(&self) -> Result<Orders, DpError> {
        Orders::new(self.orders_milli.iter().map(|a| f64::from(*a) / 1000.0).collect())
    }

    /// Holds `steps` equal steps that release `per_step` each, under a name of the caller's (contract and stage).
    ///
    /// # Errors
    /// [`DpError::BudgetExceeded`], [`DpError::ReservationExists`], [`DpError::OrdersDiffer`], [`DpError::Nothing`]; the
    /// state is unchanged.
    pub fn reserve(&mut self, id: &str, per_step: &Curve, steps: u64) -> Result<(), DpError> {
        if per_step.orders() != &self.orders()? {
            return Err(DpError::OrdersDiffer);
        }
        if steps == 0 {
            return Err(DpError::Nothing("reservation without steps"));
        }
        if self.held.iter().any(|held| held.id == id) {
            return Err(DpError::ReservationExists);
        }
        let total_micro: Vec<u64> = per_step.times(steps).values().iter().map(|r| micro_up(*r)).collect();
        let counted: Vec<u64> = self.counted().iter().zip(&total_micro).map(|(a, b)| a.saturating_add(*b)).collect();
        if !self.has_room(&counted) {
            return Err(DpError::BudgetExceeded);
        }
        self.held.push(Held { id: id.to_owned(), total_micro, steps, steps_spent: 0 });
        self.generation += 1;
        Ok(())
    }

    /// Counts `steps` of a reservation as released. Written down **before** the release: a crash between the two
    /// over-counts, never under-counts.
    ///
    /// # Errors
    /// [`DpError::NoReservation`], [`DpError::StepsExceeded`]; the state is unchanged.
    pub fn spend(&mut self, id: &str, steps: u64) -> Result<(), DpError> {
        let held = self.held.iter_mut().find(|held| held.id == id).ok_or(DpError::NoReservation)?;
        let left = held.steps - held.steps_spent;
        if steps > left {
            return Err(DpError::StepsExceeded { steps, left });
        }
        held.steps_spent += steps;
        self.generation += 1;
        Ok(())
    }

    /// Ends a reservation: what ran stays counted, what never ran is free again. Returns the steps that ran.
    ///
    /// # Errors
    /// [`DpError::NoReservation`].
    pub fn close(&mut self, id: &str) -> Result<u64, DpError> {
        let at = self.held.iter().position(|held| held.id == id).ok_or(DpError::NoReservation)?;
        let held = self.held.remove(at);
        for (closed, total) in self.closed_micro.iter_mut().zip(&held.total_micro) {
            *closed = closed.saturating_add(held.cost(*total, held.steps_spent));
        }
        self.generation += 1;
        Ok(held.steps_spent)
    }

    /// Epsilon, in millionths and rounded up, that everything **released** so far amounts to at the lifetime's delta.
    /// Zero where nothing was.
    pub fn epsilon_spent_micro(&self) -> u64 {
        let mut spent = self.closed_micro.clone();
        for held in &self.held {
            for (spent, total) in spent.iter_mut().zip(&held.total_micro) {
                *spent = spent.saturating_add(held.cost(*total, held.steps_spent));
            }
        }
        self.epsilon_of(&spent)
    }

    /// As [`Filter::epsilon_spent_micro`], with all reservations as if they had run.
    pub fn epsilon_counted_micro(&self) -> u64 {
        self.epsilon_of(&self.counted())
    }

    /// The lifetime limit, millionths of epsilon.
    pub fn epsilon_limit_micro(&self) -> u64 {
        self.epsilon_micro
    }

    /// The lifetime delta.
    pub fn delta(&self) -> f64 {
        self.delta_e12 as f64 * 1e-12
    }

    /// Rises with every change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Steps reserved and steps spent under a name.
    pub fn reservation(&self, id: &str) -> Option<(u64, u64)> {
        self.held.iter().find(|held| held.id == id).map(|held| (held.steps, held.steps_spent))
    }

    /// Number of reservations that are open.
    pub fn reservations(&self) -> usize {
        self.held.len()
    }

    fn epsilon_of(&self, counted: &[u64]) -> u64 {
        if counted.iter().all(|c| *c == 0) {
            return 0;
        }
        let share = self.delta() / self.orders_milli.len() as f64;
        let each = self.orders_milli.iter().zip(counted).filter(|(_, c)| **c < u64::MAX).map(|(order, counted)| {
            let epsilon = *counted as f64 * 1e-6 + cost_of_conversion(f64::from(*order) / 1000.0, share);
            micro_up(epsilon.max(0.0))
        });
        each.min().unwrap_or(u64::MAX)
    }

    /// Spent and reserved together, per order.
    fn counted(&self) -> Vec<u64> {
        let mut counted = self.closed_micro.clone();
        for held in &self.held {
            counted.iter_mut().zip(&held.total_micro).for_each(|(sum, total)| *sum = sum.saturating_add(*total));
        }
        counted
    }

    fn caps(&self) -> Result<Vec<u64>, DpError> {
        let (epsilon, delta) = limits(self.epsilon_micro, self.delta_e12)?;
        let share = delta / self.orders_milli.len() as f64;
        let cap = |order: &u32| (epsilon - cost_of_conversion(f64::from(*order) / 1000.0, share)) * 1e6;
        // A millionth less covers the rounding of the conversion; a negative cap becomes zero.
        Ok(self.orders_milli.iter().map(|order| (cap(order).floor() - 1.0).max(0.0) as u64).collect())
    }

    fn has_room(&self, counted: &[u64]) -> bool {
        let caps = self.caps().unwrap_or_default();
        counted.iter().zip(&caps).any(|(counted, cap)| *cap > 0 && counted <= cap)
    }
}

fn limits(epsilon_micro: u64, delta_e12: u64) -> Result<(f64, f64), DpError> {
    let epsilon = epsilon_micro as f64 * 1e-6;
    // Beyond a thousand nothing is protected any more.
    if epsilon_micro == 0 || epsilon > 1000.0 {
        return Err(DpError::Epsilon(epsilon));
    }
    Ok((epsilon, check_delta(delta_e12 as f64 * 1e-12)?))
}
