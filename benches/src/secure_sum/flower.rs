//! The same cohort with Flower's SecAgg+ primitives, in Python, as `secaggplus_mod` and its workflow call them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::{Case, Figures};
use crate::line::Line;
use crate::{Failure, print};

const SCRIPT: &str = include_str!("flower.py");

/// The most numbers it is given: more takes longer in proportion, and several times the memory of ours.
const PARAMS_MAX: usize = 10_000_000;

/// Runs the script and prints its line.
pub fn measure(python: &Path, case: Case) -> Result<(), Failure> {
    let params = case.params.min(PARAMS_MAX);
    let mut command = Command::new(python);
    command.arg("-").args([case.hospitals.to_string(), params.to_string(), case.dropped.to_string()]);
    // One thread, like the line it stands beside.
    command.env("OMP_NUM_THREADS", "1").env("OPENBLAS_NUM_THREADS", "1").env("FLWR_TELEMETRY_ENABLED", "0");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("the child has no input")?.write_all(SCRIPT.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err("Flower's primitives did not run; its words are above".into());
    }
    let said: Map<String, Value> = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| said.get(key).and_then(Value::as_f64).ok_or_else(|| format!("no {key}"));
    let figures = Figures {
        client_s: number("client_s")?,
        server_s: number("server_s")?,
        client_cpu_s: number("client_cpu_s")?,
        server_cpu_s: number("server_cpu_s")?,
        bytes_per_param: number("bytes_per_param")?,
    };
    let mut line = Line::from([
        ("system", json!(said.get("system"))),
        ("hospitals", json!(case.hospitals)),
        ("params", json!(params)),
        ("bits", json!(22)),
        ("dropped", json!(case.dropped)),
        ("threads", json!(1)),
    ]);
    figures.extend(&mut line, params);
    line.insert("client_extra_mib".into(), json!(number("client_extra_mib")?));
    print(line)
}
