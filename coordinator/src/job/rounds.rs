//! From one round of a stage to the next.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use leben_models::{Next, Outcome as Estimate, State};
use leben_privacy::secure_sum::RoundId;

use super::{Action, Job, Step, Then};
use crate::checkpoint::Finished;
use crate::model::Model;
use crate::record::{self, Record};
use crate::round::prepare::Preparation;
use crate::round::{self, Opened, Outcome, Round};

impl Job {
    pub(super) fn begin_stage(&mut self, now_ms: u64) {
        let Some(stage) = self.current_stage().cloned() else { return };
        let from = stage.state_from.and_then(|id| self.checkpoint.finished.get(&id)).map(|f| f.state.clone());
        let wanted = self.checkpoint.state.clone().or(from);
        let loaded = match &wanted {
            None => None,
            Some(digest) => match self.states.get(digest) {
                Some(model) => Some(model.clone()),
                None => {
                    return self
                        .fail("lost-state", "a model state is missing or damaged on the coordinator's disk".into());
                }
            },
        };
        match (&self.checkpoint.state, loaded) {
            (Some(_), Some(model)) => self.begin_round(now_ms, model),
            (_, from) => match stage.algorithm.start(from.as_ref().map(|model| &model.state)) {
                Ok(state) => self.store(state, Then::Round),
                Err(finding) => self.fail("finding", format!("stage '{}': {finding}", stage.name)),
            },
        }
    }

    fn store(&mut self, state: State, then: Then) {
        if let Err(error) = state.check_size() {
            return self.fail("finding", format!("the next model cannot be stored: {error}"));
        }
        self.step = Step::Store(then);
        self.actions.push_back(Action::StoreState(state));
    }

    /// Whether a state is on its way to the disk.
    pub fn awaits_state(&self) -> bool {
        matches!(self.step, Step::Store(_))
    }

    /// The state that [`Action::StoreState`] named is on the disk.
    pub fn handle_stored(&mut self, now_ms: u64, model: Model) {
        if !self.awaits_state() {
            // The job ended in between.
            return;
        }
        match std::mem::replace(&mut self.step, Step::Start) {
            Step::Store(Then::Round) => self.begin_round(now_ms, model),
            Step::Store(Then::Finish(stage, finished)) => self.finish_stage(stage, *finished, model),
            _ => {}
        }
        self.settle_down();
    }

    pub(super) fn begin_round(&mut self, now_ms: u64, model: Model) {
        let (Some(stage), Some(directory)) = (self.current_stage().cloned(), self.directory.clone()) else { return };
        // On the disk first that this is where the stage stands: a state that no checkpoint names is removed.
        self.checkpoint.started.get_or_insert_with(|| hex::encode(model.digest));
        self.checkpoint.state = Some(hex::encode(model.digest));
        self.forget_states();
        self.actions.push_back(Action::Remember(self.checkpoint.clone()));
        if self.suspended {
            self.say("suspended on the ledger; the next round waits".into());
            self.step = Step::Paused { model };
            return;
        }
        let hospitals_max = u16::try_from(directory.members.len()).unwrap_or(u16::MAX);
        let layout = match stage.algorithm.layout(&model.state, hospitals_max) {
            Ok(layout) => layout,
            Err(finding) => return self.fail("finding", format!("stage '{}': {finding}", stage.name)),
        };
        let opened = Opened {
            contract: self.plan.contract,
            round_id: RoundId { stage: stage.id, round: self.checkpoint.round },
            model_digest: model.digest,
            state_bytes: model.bytes,
            layout: Arc::new(layout),
            hospitals_max,
            checkpoint: self.root,
            epoch: self.checkpoint.epoch,
            lanes: self.lanes.clone(),
            directory,
        };
        let preparation = self.preparation.take().unwrap_or_else(|| Preparation::new(self.checkpoint.slot + 1));
        self.say(format!("{} round {} of at most {}", stage.name, self.checkpoint.round, stage.rounds_max));
        let round = Round::new(stage.rules.clone(), opened, preparation, self.checkpoint.pinned.clone());
        self.step = Step::Run { model, round: Box::new(round) };
        if let Step::Run { round, .. } = &mut self.step {
            round.handle_timeout(now_ms, &self.roster);
        }
    }

    /// Takes what the round wants done, and its outcome when there is one.
    pub(super) fn settle_down(&mut self) {
        loop {
            let Step::Run { round, .. } = &mut self.step else { return };
            let mut actions = VecDeque::new();
            while let Some(action) = round.poll_action() {
                actions.push_back(action);
            }
            let outcome = round.poll_outcome();
            self.forward(actions);
            let Some((outcome, preparation)) = outcome else { return };
            self.preparation = Some(preparation);
            self.handle_outcome(outcome);
        }
    }

    pub(super) fn forward(&mut self, actions: VecDeque<round::Action>) {
        for action in actions {
            match action {
                round::Action::Send { seat, order } => {
                    let hospital = self.roster.name(seat).to_owned();
                    self.actions.push_back(Action::Send { hospital, order });
                }
                round::Action::Remember { slot, pinned } => {
                    self.checkpoint.slot = self.checkpoint.slot.max(slot);
                    if pinned.is_some() {
                        self.checkpoint.pinned = pinned;
                    }
                    self.actions.push_back(Action::Remember(self.checkpoint.clone()));
                }
                round::Action::Fix { slot, survivors, transcript } => {
                    let Some(stage) = self.current_stage().map(|stage| stage.id) else { continue };
                    let survivors = survivors.iter().map(|seat| self.roster.name(*seat).to_owned()).collect();
                    let round = self.checkpoint.round;
                    self.ask_once(Some(Record::RoundClose { stage, round, slot, survivors, transcript }));
                }
                round::Action::Fold { slot, seat } => self.actions.push_back(Action::Fold { slot, seat }),
                round::Action::Discard { slot, summed } => self.actions.push_back(Action::Discard { slot, summed }),
            }
        }
        self.sequence += 1;
    }

    fn handle_outcome(&mut self, outcome: Outcome) {
        let Step::Run { model, .. } = std::mem::replace(&mut self.step, Step::Start) else { return };
        let Some(stage) = self.current_stage().cloned() else { return };
        let (sum, survivors, transcript) = match outcome {
            Outcome::Summed { sum, survivors, transcript } => (sum, survivors, transcript),
            Outcome::Failed { reason } => {
                return self.fail("too-few-hospitals", format!("stage '{}': {reason}", stage.name));
            }
        };
        let next = match stage.algorithm.combine(&model.state, &sum) {
            Ok(next) => next,
            Err(finding) => return self.fail("finding", format!("stage '{}': {finding}", stage.name)),
        };
        drop(sum);
        self.checkpoint.pinned = None;
        self.checkpoint.transcripts = record::chain_transcript(&self.checkpoint.transcripts, &transcript);
        match next {
            Next::Round(next) => {
                self.checkpoint.trace.extend(stage.algorithm.loss(&next));
                if self.checkpoint.round >= stage.rounds_max {
                    let rounds = stage.rounds_max;
                    return self.fail(
                        "rounds-used-up",
                        format!("stage '{}' used up the {rounds} rounds that the terms allow", stage.name),
                    );
                }
                self.checkpoint.round += 1;
                self.store(next, Then::Round);
            }
            Next::Done(outcome, last) => {
                let finished = self.finished(outcome, &survivors);
                self.store(last, Then::Finish(stage.id, Box::new(finished)));
            }
        }
    }

    /// What the running stage leaves, but for its state.
    fn finished(&self, outcome: Estimate, survivors: &[u16]) -> Finished {
        Finished {
            state: String::new(),
            started_from: self.checkpoint.started.clone().unwrap_or_default(),
            rounds: self.checkpoint.round,
            outcome,
            hospitals: survivors.iter().map(|seat| self.roster.name(*seat).to_owned()).collect(),
            trace: self.checkpoint.trace.clone(),
            transcripts: self.checkpoint.transcripts.clone(),
        }
    }

    fn finish_stage(&mut self, id: u32, finished: Finished, last: Model) {
        let digest = hex::encode(last.digest);
        let name = self.current_stage().map(|stage| stage.name.clone()).unwrap_or_default();
        self.say(format!("stage '{name}' is done after {} rounds", finished.rounds));
        self.checkpoint.finished.insert(id, Finished { state: digest.clone(), ..finished });
        if self.plan.stages.iter().any(|later| later.state_from == Some(id)) {
            self.states.insert(digest, last);
        }
        self.actions.push_back(Action::Remember(self.checkpoint.clone()));
        self.step = Step::Receipt;
        self.ask_once(record::receipt(&self.plan, &self.checkpoint, id));
    }

    /// Keeps only what a later stage starts from.
    fn forget_states(&mut self) {
        let later = self.plan.stages.iter().skip(self.checkpoint.stage + 1).filter_map(|stage| stage.state_from);
        let needed: BTreeSet<&String> =
            later.filter_map(|id| self.checkpoint.finished.get(&id)).map(|finished| &finished.state).collect();
        self.states.retain(|digest, _| needed.contains(digest));
    }
}
