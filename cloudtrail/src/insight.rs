//! PutInsightSelectors and GetInsightSelectors: which insights a trail is to have, kept and told.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::arn::TrailRef;
use crate::change::changeable;
use crate::definition::{Place, TrailDefinition};
use crate::refusal::{Refusal, read, shown};

/// CloudTrail's `InsightSelector`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InsightSelector {
    pub insight_type: InsightType,
    /// Without repetitions, not empty.
    pub event_categories: Vec<InsightCategory>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InsightType {
    /// An unusual number of calls: of writing management calls, or of all data calls.
    ApiCallRateInsight,
    /// An unusual number of calls that fail.
    ApiErrorRateInsight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InsightCategory {
    Management,
    Data,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutInsights {
    pub trail: TrailRef,
    /// `None` where the member is absent, which is refused.
    wanted: Option<Vec<Wanted>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetInsightSelectors {
    pub trail: TrailRef,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    trail_name: Option<String>,
    insight_selectors: Option<Vec<Value>>,
    event_data_store: Option<String>,
    insights_destination: Option<String>,
}

/// An insight selector as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    insight_type: Option<String>,
    event_categories: Option<Vec<String>>,
}

impl PutInsights {
    pub fn parse(input: Value) -> Result<Self, Refusal> {
        let input: Input = read(input)?;
        let trail = trail(&input)?;
        let wanted = input.insight_selectors.map(|all| all.into_iter().map(read).collect::<Result<_, _>>()).transpose()?;
        Ok(Self { trail, wanted })
    }
}

impl GetInsightSelectors {
    pub fn parse(input: Value) -> Result<Self, Refusal> {
        Ok(Self { trail: trail(&read(input)?)? })
    }
}

/// Insights are a trail's or an event data store's; here are trails alone.
fn trail(input: &Input) -> Result<TrailRef, Refusal> {
    let of_store = input.event_data_store.is_some() || input.insights_destination.is_some();
    match &input.trail_name {
        Some(_) if of_store => {
            let message = "TrailName can't be given together with EventDataStore or InsightsDestination";
            Err(Refusal::new("InvalidParameterCombinationException", message))
        }
        Some(name) => TrailRef::parse(name),
        None if of_store => {
            let message = "there are no event data stores here: give TrailName";
            Err(Refusal::new("UnsupportedOperationException", message))
        }
        None => Err(Refusal::new("InvalidParameterException", "give TrailName")),
    }
}

/// The new list replaces the old one; an empty one turns insights off.
pub fn put_insights(old: &TrailDefinition, request: PutInsights, at: &Place<'_>) -> Result<TrailDefinition, Refusal> {
    changeable(old, at)?;
    let wanted = request.wanted.ok_or_else(|| refused("give InsightSelectors; an empty list turns insights off".to_owned()))?;
    let mut insights: Vec<InsightSelector> = Vec::new();
    for selector in wanted {
        let selector = InsightSelector::of(selector)?;
        if insights.iter().any(|other| other.insight_type == selector.insight_type) {
            return Err(refused(format!("{} is given twice", selector.insight_type.as_str())));
        }
        selector.fits(old)?;
        insights.push(selector);
    }
    Ok(TrailDefinition { insights, ..old.clone() })
}

impl InsightSelector {
    fn of(wanted: Wanted) -> Result<Self, Refusal> {
        let insight_type = match wanted.insight_type.as_deref() {
            Some("ApiCallRateInsight") => InsightType::ApiCallRateInsight,
            Some("ApiErrorRateInsight") => InsightType::ApiErrorRateInsight,
            Some(other) => {
                return Err(refused(format!(
                    "`{}` is no InsightType: give ApiCallRateInsight or ApiErrorRateInsight",
                    shown(other)
                )));
            }
            None => {
                return Err(refused("a selector has no InsightType: give ApiCallRateInsight or ApiErrorRateInsight".to_owned()));
            }
        };
        let mut event_categories = Vec::new();
        // Source: InsightSelector, `EventCategories`: management calls where it is not provided.
        for text in wanted.event_categories.unwrap_or_else(|| vec!["Management".to_owned()]) {
            let category = match text.as_str() {
                "Management" => InsightCategory::Management,
                "Data" => InsightCategory::Data,
                other => return Err(refused(format!("`{}` is no event category: give Management or Data", shown(other)))),
            };
            if !event_categories.contains(&category) {
                event_categories.push(category);
            }
        }
        if event_categories.is_empty() {
            return Err(refused(format!("{} has no event category: give Management or Data", insight_type.as_str())));
        }
        Ok(Self { insight_type, event_categories })
    }

    /// Whether the trail takes what the insight is made from. Source: PutInsightSelectors.
    fn fits(&self, trail: &TrailDefinition) -> Result<(), Refusal> {
        if trail.takes_all() {
            return Ok(());
        }
        for category in &self.event_categories {
            let (kind, taken) = match (category, self.insight_type) {
                (InsightCategory::Management, InsightType::ApiCallRateInsight) => {
                    ("write management", trail.selectors.wants_management_writes())
                }
                (InsightCategory::Management, InsightType::ApiErrorRateInsight) => {
                    ("management", trail.selectors.wants_management())
                }
                (InsightCategory::Data, _) => ("data", trail.selectors.wants_data()),
            };
            if !taken {
                return Err(refused(format!("the trail logs no {kind} events, which {} needs", self.insight_type.as_str())));
            }
        }
        Ok(())
    }
}

impl InsightType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiCallRateInsight => "ApiCallRateInsight",
            Self::ApiErrorRateInsight => "ApiErrorRateInsight",
        }
    }
}

impl TrailDefinition {
    /// The answer of PutInsightSelectors.
    pub fn insights_put(&self) -> Value {
        json!({ "TrailARN": self.arn, "InsightSelectors": self.insights })
    }

    /// The answer of GetInsightSelectors; a trail without any is refused, which clients rely on.
    pub fn insights_got(&self) -> Result<Value, Refusal> {
        if self.insights.is_empty() {
            let message = format!("Trail {} does not have Insights enabled", self.arn);
            return Err(Refusal::new("InsightNotEnabledException", message));
        }
        Ok(self.insights_put())
    }
}

fn refused(message: String) -> Refusal {
    Refusal::new("InvalidInsightSelectorsException", message)
}
