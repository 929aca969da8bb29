//! One thing after another that must hold, each with what was found: what `record` and `fork` print.

use std::fmt;

use serde::Serialize;

/// What was checked, whether it holds, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub step: &'static str,
    pub holds: bool,
    pub found: String,
}

/// In the order in which they lean on each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Steps(pub Vec<Step>);

impl Steps {
    /// Notes a step and gives whether it holds.
    pub fn note(&mut self, step: &'static str, found: Result<String, String>) -> bool {
        let holds = found.is_ok();
        let (Ok(found) | Err(found)) = found;
        self.0.push(Step { step, holds, found });
        holds
    }

    pub fn hold(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|step| step.holds)
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|step| step.step.len()).max().unwrap_or(0);
        for Step { step, holds, found } in &self.0 {
            let mark = if *holds { "ok    " } else { "FAILED" };
            let mut lines = found.lines();
            writeln!(f, "  {mark}  {step:<width$}  {}", lines.next().unwrap_or_default())?;
            for line in lines {
                writeln!(f, "  {:<6}  {:<width$}  {line}", "", "")?;
            }
        }
        Ok(())
    }
}
