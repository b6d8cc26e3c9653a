//! What is to be agreed, as terms.

use std::sync::Arc;

use leben_contracts::agreement::body::{ColumnRole, ColumnSpec, ColumnType};
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::Role;
use leben_contracts::agreement::purpose::{Permission, Purpose};
use leben_contracts::agreement::terms::{
    Algorithm, Delivery, Disclosure, Input, OnDrop, OnFailure, Param, Price, Privacy, Split, Stage, Terms, TermsParty,
    Windows,
};
use leben_models::{AlgorithmSpec, registry};
use leben_privacy::secure_sum;
use leben_worker::declared::{Dataset, Declared, Floors, LocalPolicy};

use crate::agreement::{DATASET, HOUR_MS, START_MS, code, hospital, id, sealing};

/// What is to be agreed.
#[derive(Clone, Debug)]
pub struct Deal {
    /// How many hospitals, at least 3.
    pub hospitals: u16,
    /// Fewest in a sum.
    pub hospitals_min: u16,
    /// Shares that open a secret, as the terms say.
    pub threshold: u16,
    /// What a drop means.
    pub on_drop: OnDrop,
    /// Repeats of a round.
    pub retries: u32,
    /// How long a linked hospital may be silent, milliseconds.
    pub timeout_ms: u64,
    /// How long it may be away before the others go on, milliseconds.
    pub away_ms_max: u64,
    /// The stages, each starting from the one before.
    pub stages: Vec<AlgorithmSpec>,
    /// Columns of the data set.
    pub columns: Vec<String>,
}

impl Deal {
    /// One stage over columns `a` and `b`, going on without hospitals that drop out.
    pub fn new(hospitals: u16) -> Deal {
        Deal {
            hospitals,
            hospitals_min: secure_sum::threshold(hospitals),
            threshold: secure_sum::threshold(hospitals),
            on_drop: OnDrop::Continue,
            retries: 4,
            timeout_ms: 60_000,
            away_ms_max: 15_000,
            stages: vec![AlgorithmSpec::new("standardise", [("features", "a,b")])],
            columns: vec!["a".into(), "b".into()],
        }
    }
}

impl Deal {
    /// What each hospital declares.
    pub fn declared(&self) -> Declared {
        let column = |name: &String| ColumnSpec {
            column: name.clone(),
            column_type: ColumnType::Number,
            unit: String::new(),
            role: ColumnRole::Feature,
            codes: Vec::new(),
        };
        let permission = Permission { duo: vec!["GRU".into()], ehds: vec!["53.1.e".into()] };
        let mut dataset = Dataset::new(code(DATASET), self.columns.iter().map(column).collect(), permission).unwrap();
        dataset.rows_rounded = Some(100);
        Declared::new(
            vec![dataset],
            Arc::new(|_, _| Err("no cohorts here".into())),
            LocalPolicy::new(true, Floors::NONE),
        )
    }

    /// The terms.
    pub fn terms(&self) -> Terms {
        let seats = 1..=self.hospitals;
        let party = |name: &str, role| TermsParty { party: id(name), roles: vec![role] };
        let mut parties = vec![party("team", Role::DataUser), party("coordinator", Role::Integrator)];
        parties.extend(seats.clone().map(|seat| party(&hospital(seat), Role::DataOwner)));
        let schema_hash = self.declared().get(&code(DATASET)).unwrap().schema_hash;
        let input = |seat: u16| Input {
            id: code(&format!("in-{seat}")),
            owner: id(&hospital(seat)),
            dataset: code(DATASET),
            schema_hash,
            cohort: String::new(),
            columns: self.columns.clone(),
            row_cap: 1_000_000,
            cohort_min: 1,
        };
        let share = 10_000 / u32::from(self.hospitals + 1);
        let mut splits: Vec<Split> =
            seats.clone().map(|seat| Split { party: id(&hospital(seat)), basis_points: share }).collect();
        let rest = 10_000 - share * u32::from(self.hospitals);
        splits.push(Split { party: id("coordinator"), basis_points: rest });
        Terms {
            v: 1,
            purpose: Purpose {
                duo: vec!["HMB".into()],
                ehds: Some("53.1.e.ii".into()),
                commercial: false,
                methods_development: true,
            },
            parties,
            inputs: seats.map(input).collect(),
            algorithms: self.algorithms(),
            stages: self.stages(),
            privacy: Privacy {
                mechanism: code("none"),
                epsilon_micro: 0,
                delta_e12: 0,
                hospitals_min: self.hospitals_min,
                secure_sum: true,
                threshold: self.threshold,
                disclosure: Disclosure::default(),
            },
            price: Price { total_credits: 1000, splits, per_round: 0, deposit: 100 },
            delivery: Delivery {
                recipient: id("team"),
                sealing: sealing("team"),
                outputs: vec![code("coefficients")],
                review: false,
                delete_by_ms: START_MS + 1000 * HOUR_MS,
            },
            windows: Windows {
                sign_by_ms: START_MS + 10 * HOUR_MS,
                run_by_ms: START_MS + 100 * HOUR_MS,
                accept_within_ms: 5 * HOUR_MS,
            },
            text_hash: Hash32([0; 32]),
        }
        .with_text_hash()
    }

    fn algorithms(&self) -> Vec<Algorithm> {
        let param = |param: &leben_models::Param| match param {
            leben_models::Param::Integer(number) => Param::Integer(*number),
            leben_models::Param::Text(text) => Param::Text(text.clone()),
        };
        let algorithm = |spec: &AlgorithmSpec| Algorithm {
            id: code(&spec.name),
            name: code(&spec.name),
            version: code(&spec.version.to_string()),
            digest: Hash32(registry::digest(&spec.name, spec.version).expect("built in")),
            params: spec.params.iter().map(|(name, value)| (name.clone(), param(value))).collect(),
        };
        self.stages.iter().map(algorithm).collect()
    }

    fn stages(&self) -> Vec<Stage> {
        let stage = |(number, spec): (u32, &AlgorithmSpec)| Stage {
            id: number,
            name: code(&spec.name),
            executor: id("coordinator"),
            after: (number > 1).then_some(number - 1).into_iter().collect(),
            inputs: (1..=self.hospitals).map(|seat| code(&format!("in-{seat}"))).collect(),
            state_from: (number > 1).then_some(number - 1),
            algorithm: code(&spec.name),
            rounds_max: registry::build(spec).expect("a good spec").rounds_max(),
            timeout_ms: self.timeout_ms,
            retries: self.retries,
            on_failure: OnFailure::Abort,
            on_drop: self.on_drop,
        };
        (1..).zip(&self.stages).map(stage).collect()
    }
}
