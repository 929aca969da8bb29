//! The requests that change a trail, by operation.

use serde::Deserialize;
use serde_json::Value;

use crate::arn::TrailRef;
use crate::create::CreateTrail;
use crate::insight::PutInsights;
use crate::refusal::{Refusal, read};
use crate::selectors_request::PutSelectors;
use crate::tags::TagChange;
use crate::update::UpdateTrail;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Create(CreateTrail),
    Update(UpdateTrail),
    Delete(TrailRef),
    Start(TrailRef),
    Stop(TrailRef),
    PutSelectors(PutSelectors),
    PutInsights(PutInsights),
    AddTags(TagChange),
    RemoveTags(TagChange),
}

impl Request {
    /// `None` for an operation that changes no trail.
    pub fn parse(operation: &str, input: Value) -> Option<Result<Self, Refusal>> {
        Some(match operation {
            "CreateTrail" => CreateTrail::parse(input).map(Self::Create),
            "UpdateTrail" => UpdateTrail::parse(input).map(Self::Update),
            "DeleteTrail" => trail_named(input).map(Self::Delete),
            "StartLogging" => trail_named(input).map(Self::Start),
            "StopLogging" => trail_named(input).map(Self::Stop),
            "PutEventSelectors" => PutSelectors::parse(input).map(Self::PutSelectors),
            "PutInsightSelectors" => PutInsights::parse(input).map(Self::PutInsights),
            "AddTags" => TagChange::parse(input).map(Self::AddTags),
            "RemoveTags" => TagChange::parse(input).map(Self::RemoveTags),
            _ => return None,
        })
    }
}

/// The trail of the operations that say no more than `Name`: DeleteTrail, GetTrail, GetTrailStatus, StartLogging,
/// StopLogging.
pub fn trail_named(input: Value) -> Result<TrailRef, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Input {
        name: Option<String>,
    }
    let Input { name } = read(input)?;
    TrailRef::of_member(name.as_deref())
}

/// The trail of GetEventSelectors, which calls the same thing `TrailName`.
pub fn trail_named_in_selectors(input: Value) -> Result<TrailRef, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Input {
        trail_name: Option<String>,
    }
    let Input { trail_name } = read(input)?;
    TrailRef::of_member(trail_name.as_deref())
}
