//! The rules of `terms_check.rs` about stages: order, references, limits, and that no data is asked for in vain.

use super::party::{Code, Role};
use super::terms::{Stage, Terms};
use super::terms_check::{LIST_MAX, RETRIES_MAX, ROUNDS_MAX, TermsError, unique};
use crate::ledger::canonical::INTEGER_MAX;

impl Terms {
    pub(super) fn check_stage(&self, stage: &Stage, earlier: &[Stage]) -> Result<(), TermsError> {
        if stage.id == 0 || earlier.last().is_some_and(|e| e.id >= stage.id) {
            return Err(TermsError::StageOrder(stage.id));
        }
        if stage.after.len() > LIST_MAX || stage.inputs.len() > LIST_MAX {
            return Err(TermsError::TooMany { list: "after", max: LIST_MAX });
        }
        unique("after", stage.after.iter().map(ToString::to_string))?;
        unique("stage inputs", stage.inputs.iter().map(ToString::to_string))?;
        if let Some(after) = stage.after.iter().find(|a| !earlier.iter().any(|e| e.id == **a)) {
            return Err(TermsError::Dependency { stage: stage.id, after: *after });
        }
        if let Some(from) = stage.state_from.filter(|from| !stage.after.contains(from)) {
            return Err(TermsError::StateFrom { stage: stage.id, from });
        }
        let missing = |list, name: &Code| Err(TermsError::StageReference { stage: stage.id, list, name: name.clone() });
        if let Some(name) = stage.inputs.iter().find(|id| self.input(id).is_none()) {
            return missing("inputs", name);
        }
        if self.algorithm(&stage.algorithm).is_none() {
            return missing("algorithms", &stage.algorithm);
        }
        self.known("executor", &stage.executor)?;
        let may_run = [Role::Integrator, Role::ComputeProvider, Role::DataOwner];
        if !may_run.into_iter().any(|role| self.has_role(&stage.executor, role)) {
            let why = "executes a stage but is no integrator, compute provider or data owner here";
            return Err(TermsError::Role { party: stage.executor.clone(), why });
        }
        let timeout_ok = stage.timeout_ms >= 1 && stage.timeout_ms <= INTEGER_MAX;
        if !(1..=ROUNDS_MAX).contains(&stage.rounds_max) || stage.retries > RETRIES_MAX || !timeout_ok {
            return Err(TermsError::StageLimits(stage.id));
        }
        Ok(())
    }

    pub(super) fn check_used(&self) -> Result<(), TermsError> {
        if self.stages.is_empty() {
            return Err(TermsError::Empty("stages"));
        }
        if self.stages.len() > LIST_MAX {
            return Err(TermsError::TooMany { list: "stages", max: LIST_MAX });
        }
        match self.inputs.iter().find(|i| !self.stages.iter().any(|s| s.inputs.contains(&i.id))) {
            Some(input) => Err(TermsError::UnusedInput(input.id.clone())),
            None => Ok(()),
        }
    }
}
