//! An AI team's mistakes, and what a team that means harm tries.

use leben::action;
use leben::draft::draft;
use leben::io::sync::sync;
use leben::io::{fresh, now_ms};
use leben::job::Job;
use leben::{Home, Session};
use leben_contracts::agreement::party::Code;
use leben_contracts::agreement::terms::Terms;
use leben_protocol::reject::RejectCode;

use crate::deployment::{Deployment, HOSPITALS};
use crate::process::wait_until;
use crate::rows::JobFile;

#[test]
fn a_faulty_job_is_refused_before_a_row_is_read() {
    let mut deployment = Deployment::running(60);
    drafts(&deployment);
    hostile_proposals(&deployment);
    small_cohorts(&mut deployment);
}

/// The team's own program says it, with line and remedy; nothing is sent.
fn drafts(deployment: &Deployment) {
    let size = || deployment.leben(&["ledger", "list", "--kind", "Propose"]).ok();
    let before = size();
    let refused = |job: JobFile<'_>, words: &[&str]| deployment.try_submit(&job.text()).complains(words);
    let sets = ["aker/cohort", "basel/cohort", "cluj/cohrt"];
    refused(
        JobFile { sets: &sets, ..JobFile::default() },
        &["job.toml", "line 6", "there is no data set 'cluj/cohrt'", "did you mean 'cluj/cohort'?"],
    );
    refused(
        JobFile { features: r#"["age", "doze"]"#, ..JobFile::default() },
        &["job.toml", "line 12", "there is no column 'doze'", "did you mean 'dose'?"],
    );
    refused(JobFile { outcome: "patient", ..JobFile::default() }, &["column 'patient'", "never computed on"]);
    deployment.try_submit("[purpose]\nduo = [\"GRU\"").complains(&["job.toml", "line 2"]);
    let purpose =
        JobFile::default().text().replace("[\"GRU\"]", "[\"DS=MONDO:0005148\"]").replace("53.1.e.ii", "53.1.a");
    deployment.try_submit(&purpose).complains(&["job.toml", "cohort", "Permitted: GRU"]);
    assert_eq!(size(), before, "nothing was proposed");
}

/// Hand-made proposals that no draft would make: the ledger says no, or every hospital does.
fn hostile_proposals(deployment: &Deployment) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let propose = |change: fn(&mut Terms), back_ms: u64| {
        runtime.block_on(async {
            let home = Home::open(&deployment.path("team")).unwrap();
            let session = Session::connect(&home).await.unwrap();
            let ledger = sync(&home, &session).await.unwrap();
            let job = Job::parse(&JobFile::default().text()).unwrap();
            let mut terms = draft(&job, &ledger.offers(home.party()).unwrap(), now_ms()).unwrap();
            change(&mut terms);
            let mut fresh = fresh().unwrap();
            fresh.now_ms -= back_ms;
            let envelope = action::propose(&home, ledger.state(), &terms.with_text_hash(), fresh).unwrap();
            let answer = session.append(&envelope, true).await;
            session.close().await;
            (answer, hex::encode(envelope.payload_hash()))
        })
    };
    let refused = |change: fn(&mut Terms), back_ms: u64, words: &[&str]| {
        let error = propose(change, back_ms).0.unwrap_err();
        assert_eq!(error.code(), Some(RejectCode::EntryRefused), "{error}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
    };
    refused(|terms| terms.inputs[0].dataset = Code::new("nothing").unwrap(), 0, &["aker/nothing"]);
    refused(|terms| terms.inputs[0].columns.push("height".into()), 0, &["height", "aker/cohort"]);
    refused(|terms| terms.privacy.hospitals_min = 1, 0, &["hospitals_min"]);
    refused(|terms| terms.inputs[0].cohort_min = 0, 0, &["input aker.cohort", "the smallest cohort"]);
    // Signed by a clock that is two hours behind.
    refused(
        |_| {},
        2 * 3_600_000,
        &["min after the time in which the action is valid", "set it (for example by NTP) and sign again"],
    );
    // The ledger cannot read cohort queries; the hospital can, and says so to its steward.
    let (answer, contract) = propose(|terms| terms.inputs[0].cohort = "height > 3".into(), 0);
    answer.unwrap();
    wait_until("aker's steward reads why", || {
        let table = deployment.worker("aker", &["contracts"]).ok();
        table.contains(&contract) && table.contains("column 'height' is not declared")
    });
    deployment.worker("aker", &["approve", &contract[..12]]);
}

/// Terms that everybody signed, and too few rows: no round is opened on them, and the ledger says whose.
fn small_cohorts(deployment: &mut Deployment) {
    for job in
        [JobFile { cohort_min: 5_000, ..JobFile::default() }, JobFile { cohort: "age > 200", ..JobFile::default() }]
    {
        let contract = deployment.submit(&job.text())["contract"].as_str().unwrap().to_owned();
        let mut watch = deployment.watch(&contract);
        deployment.approve(&HOSPITALS, &contract);
        let end = deployment.end_of(&mut watch);
        assert_eq!((&end["phase"], &end["ok"]), (&"Aborted".into(), &false.into()), "{end}");
        let why = end["why"].as_str().unwrap();
        let asked = format!("has fewer rows than the {} that the terms ask for", job.cohort_min);
        assert!(why.contains(&asked) && HOSPITALS.iter().any(|hospital| why.contains(hospital)), "{why}");
        let audit = deployment.worker("aker", &["audit"]).ok();
        assert!(audit.contains("small_cohort") && audit.contains("the chain is whole"), "{audit}");
    }
    // The price went back.
    let status = deployment.leben(&["status", "--json"]).json();
    assert_eq!(status["credits"], 5_000, "{status}");
}
