//! `leben demo`: a whole network in one process, on real rows, with real links, keys, files and signatures.
//!
//! Read `play` first: it is the story. [`data`] has the rows, [`network`] the coordinator and the hospitals, [`count`] counts
//! bytes, [`pooled`] is the comparison that only a demo can make, [`report`] says what happened.

pub mod count;
pub mod data;
pub mod network;
pub mod pooled;
pub mod report;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::hash::ContractId;
use leben_contracts::agreement::table::Phase;
use leben_contracts::ledger::store::export;
use leben_protocol::frame::HospitalState;
use leben_worker::agent::Command;
use leben_worker::io::approvals;

use crate::io::now_ms;
use crate::io::session::Session;
use crate::io::sync::{sync, update};
use crate::io::terminal::{Display, print};
use crate::io::{fetch, submit, watch};
use crate::ledger::Ledger;
use crate::verify::{Wish, verify};
use crate::watch::Event;
use data::Rows;
use network::Network;
use report::Report;

/// How long anything that the demo waits for may take.
const PATIENCE: Duration = Duration::from_secs(50);
/// What marks a folder as a demo's, so that a new run may replace it.
const MARK: &str = "leben-demo.txt";

/// `leben demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// One JSON object as the last line in place of text for people.
    #[arg(long)]
    pub json: bool,
    /// Where everything is written; an earlier demo's folder is replaced.
    #[arg(long, value_name = "DIR", default_value = "leben-demo")]
    pub out: PathBuf,
}

/// Runs the demo.
///
/// # Errors
/// In words.
pub fn run(args: DemoArgs) -> Result<ExitCode, Box<dyn Error>> {
    prepare(&args.out)?;
    log_to(&args.out)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(play(&args.out, args.json))?;
    print(&if args.json { format!("{}\n", report.to_json()) } else { report.to_text() });
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Takes an empty or new folder, or one that an earlier demo made; anything else stays untouched.
fn prepare(out: &Path) -> Result<(), Box<dyn Error>> {
    let used = out.is_dir() && std::fs::read_dir(out)?.next().is_some();
    if used && !out.join(MARK).is_file() {
        return Err(format!("{} exists and is no earlier demo's; choose another with --out", out.display()).into());
    }
    if used {
        std::fs::remove_dir_all(out)?;
    }
    std::fs::create_dir_all(out)?;
    Ok(std::fs::write(out.join(MARK), "Made by `leben demo`, which may replace this folder.\n")?)
}

/// Everybody's log goes to one file; what people read is on the terminal.
fn log_to(out: &Path) -> Result<(), Box<dyn Error>> {
    let file = std::fs::File::create(out.join("log.txt"))?;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::sync::Mutex::new(file));
    log.try_init().map_err(|error| error.to_string().into())
}

/// The story.
async fn play(out: &Path, json: bool) -> Result<Report, Box<dyn Error>> {
    let started_ms = now_ms();
    let say = |line: String| {
        if !json {
            print(&format!("  {line}\n"));
        }
    };
    let heading = |line: &str| {
        if !json {
            print(&format!("\n{line}\n"));
        }
    };
    heading("1  A network: everybody makes its own keys and enrols on the ledger");
    let rows = Rows::load();
    let network = Network::start(out, &rows, say).await?;
    let session = Session::connect(&network.team).await?;
    let mut ledger = sync(&network.team, &session).await?;
    wait(&network, &session, &mut ledger, "four data sets and four witnesses on the ledger", |ledger| {
        let witnesses = ledger.state().policy().map_or(0, |policy| policy.validators.len());
        ledger.state().datasets().len() == 4 && witnesses == 4
    })
    .await?;
    say("four data sets offered; every entry from here on is final when three of four hospitals have cosigned it"
        .into());

    heading("2  A contract: three stages, signed by the AI team and by every hospital");
    let submitted = submit::submit(&network.team, &session, &mut ledger, &rows.job_toml()).await?;
    let id = submitted.contract;
    for hospital in &network.hospitals {
        let terms_hash = submitted.terms.hash()?;
        approvals::leave(&hospital.folder, &Command::Approve { contract: id, terms_hash })?;
    }

    heading("3  Rounds: every hospital's numbers are masked, only their sum can be read");
    let slots = follow(&network, &mut ledger, id, json).await?;

    heading("4  The result: fetched, opened with the team's key, accepted, paid");
    let fetched = fetch::fetch(&network.team, &session, &mut ledger, id, &out.join("result")).await?;
    wait(&network, &session, &mut ledger, "the price settled", |ledger| phase(ledger, &id) == Some(Phase::Settled))
        .await?;

    heading("5  Verification: offline, from the published files alone");
    export(&network.ledger_folder(), &out.join("ledger"))?;
    let policy = ledger.policy().ok_or("the ledger has no policy")?.to_string();
    std::fs::write(out.join("policy.txt"), policy)?;
    let wish = Wish { policy: Some(out.join("policy.txt")), ..Wish::default() };
    let verified = verify(&out.join("ledger"), &wish).map_err(|error| error.to_string());
    let pooled = pooled::fit_terms(&submitted.terms, &rows.table()?)?;
    let bytes = network.counter.up_and_down(&network.hospital_keys());
    let contract = ledger.state().contract(&id).cloned().ok_or("the contract left the ledger")?;
    let report = Report::new(
        out,
        &fetched.opened.bundle,
        &pooled,
        &contract,
        verified,
        bytes,
        slots,
        Duration::from_millis(now_ms().saturating_sub(started_ms)),
    )?;
    session.close().await;
    network.stop().await;
    Ok(report)
}

/// Watches the rounds, one hospital being cut off in the middle of one.
async fn follow(network: &Network, ledger: &mut Ledger, id: ContractId, json: bool) -> Result<Slots, Box<dyn Error>> {
    network.cut_later();
    let mut slots = Slots::default();
    let mut display = (!json).then(|| Display::new(false));
    let session = Session::connect(&network.team).await?;
    let end = watch::watch(&network.team, session, ledger, id, |event| {
        slots.see(event);
        if let Some(display) = &mut display {
            display.show(event);
        }
    })
    .await?;
    if let Some(display) = &mut display {
        display.finish();
    }
    match end.is_success() {
        true => Ok(slots),
        false => Err(format!("the job ended as {}: {}", end.phase, end.why).into()),
    }
}

fn phase(ledger: &Ledger, id: &ContractId) -> Option<Phase> {
    ledger.state().contract(id).map(|contract: &Contract| contract.phase)
}

/// Brings the team's copy of the ledger up to date until it says what is waited for.
async fn wait(
    network: &Network,
    session: &Session,
    ledger: &mut Ledger,
    what: &str,
    done: impl Fn(&Ledger) -> bool,
) -> Result<(), Box<dyn Error>> {
    let waiting = async {
        while !done(ledger) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            update(&network.team, session, ledger).await?;
        }
        Ok::<(), Box<dyn Error>>(())
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(result) => result,
        Err(_) => Err(format!("{what}: not within {} s", PATIENCE.as_secs()).into()),
    }
}

/// What was seen of slots: how many were used, and who was away when.
#[derive(Debug, Default)]
pub struct Slots {
    used: u64,
    cut: Option<(String, String, u32)>,
}

impl Slots {
    fn see(&mut self, event: &Event) {
        let Event::Running(progress) = event else { return };
        self.used = self.used.max(progress.slot);
        let away = progress.hospitals.iter().find(|hospital| hospital.state == HospitalState::Away);
        if let (None, Some(away), Some((_, stage))) = (&self.cut, away, &progress.stage) {
            self.cut = Some((away.party.clone(), stage.clone(), progress.round));
        }
    }

    /// In words, given the rounds that the result counts.
    fn to_text(&self, rounds: u32) -> String {
        match &self.cut {
            None => "no hospital was away".into(),
            Some((hospital, stage, round)) => format!(
                "{hospital} was cut off in the middle of round {round} of '{stage}' and came back; its slot was abandoned, \
                 nothing of it was opened, and the round was repeated with all four ({} slots for {rounds} rounds)",
                self.used
            ),
        }
    }
}
