//! A mapping, read and checked: how the fields of a line become a record.
//!
//! Those that ship are compiled in; an operator's own is a file. A mapping is data: it can name, choose and rewrite
//! fields, nothing else. What is wrong with one is said when the configuration is read, never when a line comes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::route::{Route, RouteError};
use super::shape::{AccessShape, EventShape, Format, IdentityShape, RecordShape, ResourceShape, Shape, Texts};
use super::template::{Template, TemplateError};

/// A mapping that can be applied.
#[derive(Debug)]
pub struct Mapping {
    pub name: String,
    pub format: Format,
    pub pattern: Option<regex_lite::Regex>,
    pub unfold: Option<String>,
    pub requires: Option<String>,
    pub record: RecordRule,
    pub events: Vec<EventRule>,
    pub access: AccessShape,
    pub routes: Vec<Route>,
    /// What it was made of: two mappings are the same when this is.
    shape: Shape,
}

/// A value's alternatives; the first that can be filled stands.
pub type Choice = Vec<Template>;

/// [`RecordShape`], compiled.
#[derive(Clone, Debug, Default)]
pub struct RecordRule {
    pub source: Choice,
    pub name: Choice,
    pub time: Choice,
    pub address: Choice,
    pub agent: Choice,
    pub request_id: Choice,
    pub error_code: Choice,
    pub error_message: Choice,
    pub read_only: Choice,
    pub category: Choice,
    pub kind: Choice,
    pub identity: Option<IdentityRule>,
    pub parameters: Option<Vec<(String, Choice)>>,
    pub response: Option<Vec<(String, Choice)>>,
    pub resources: Option<Vec<(String, Choice)>>,
}

#[derive(Clone, Debug, Default)]
pub struct IdentityRule {
    pub kind: Choice,
    pub name: Choice,
    pub id: Choice,
    pub provider: Choice,
    pub access_key: Choice,
    pub invoked_by: Choice,
}

#[derive(Clone, Debug)]
pub struct EventRule {
    /// Field and patterns.
    pub when: Vec<(String, Vec<String>)>,
    pub record: RecordRule,
}

/// Why a mapping can't be used. `Display` says what to change.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    #[error("no mapping is named `{name}`: give one of {known}, or the path of a file")]
    Unknown { name: String, known: String },
    #[error("the mapping {} can't be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("the mapping {name} is not as it must be: {why}")]
    Shape { name: String, why: String },
    #[error("the mapping {name}: {key}: {cause}")]
    Template { name: String, key: String, cause: TemplateError },
    #[error("the mapping {name}: {cause}")]
    Route { name: String, cause: RouteError },
}

/// The mappings that ship.
const SHIPPED: &[(&str, &str)] = &[
    ("access", include_str!("../../../mappings/access.toml")),
    ("apache", include_str!("../../../mappings/apache.toml")),
    ("caddy", include_str!("../../../mappings/caddy.toml")),
    ("containerd", include_str!("../../../mappings/containerd.toml")),
    ("docker", include_str!("../../../mappings/docker.toml")),
    ("envoy", include_str!("../../../mappings/envoy.toml")),
    ("gitea", include_str!("../../../mappings/gitea.toml")),
    ("gitlab", include_str!("../../../mappings/gitlab.toml")),
    ("grafana", include_str!("../../../mappings/grafana.toml")),
    ("haproxy", include_str!("../../../mappings/haproxy.toml")),
    ("json", include_str!("../../../mappings/json.toml")),
    ("keycloak", include_str!("../../../mappings/keycloak.toml")),
    ("logfmt", include_str!("../../../mappings/logfmt.toml")),
    ("minio", include_str!("../../../mappings/minio.toml")),
    ("nginx", include_str!("../../../mappings/nginx.toml")),
    ("openbao", include_str!("../../../mappings/openbao.toml")),
    ("podman", include_str!("../../../mappings/podman.toml")),
    ("postgresql", include_str!("../../../mappings/postgresql.toml")),
    ("syslog", include_str!("../../../mappings/syslog.toml")),
    ("traefik", include_str!("../../../mappings/traefik.toml")),
    ("vault", include_str!("../../../mappings/vault.toml")),
];

/// What these members may say.
const CATEGORIES: &[&str] = &["Management", "Data"];
const TYPES: &[&str] = &["AwsApiCall", "AwsServiceEvent", "AwsConsoleAction", "AwsConsoleSignIn"];
const TRUTHS: &[&str] = &["true", "false"];

/// Largest mapping file, bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

impl Mapping {
    /// The names of those that ship.
    pub fn shipped() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// A shipped one by its name, or one's own by its path; `access` goes over what it says itself.
    pub fn open(name: &str, access: AccessShape) -> Result<Arc<Self>, MappingError> {
        let text = match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, text)) => (*text).to_owned(),
            None if name.contains(['/', '.']) => read(Path::new(name))?,
            None => {
                let known = Self::shipped().collect::<Vec<_>>().join(", ");
                return Err(MappingError::Unknown { name: name.to_owned(), known });
            }
        };
        Self::parse(name, &text, access).map(Arc::new)
    }

    /// Of a mapping file's text.
    pub fn parse(name: &str, text: &str, access: AccessShape) -> Result<Self, MappingError> {
        let wrong = |why: String| MappingError::Shape { name: name.to_owned(), why };
        let mut shape: Shape = toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        shape.access = access.over(&shape.access);
        let pattern = match (&shape.pattern, shape.format) {
            (Some(pattern), Format::Regex | Format::Json | Format::Logfmt) => {
                Some(regex_lite::Regex::new(pattern).map_err(|error| wrong(format!("pattern: {error}")))?)
            }
            (None, Format::Regex) => return Err(wrong("format \"regex\" needs `pattern`".to_owned())),
            (Some(_), _) => return Err(wrong("only the formats regex, json and logfmt have a `pattern`".to_owned())),
            (None, _) => None,
        };
        if let Some(why) = shape.access.trouble() {
            return Err(wrong(why));
        }
        let routes = shape.access.routes.iter().map(Route::new).collect::<Result<Vec<_>, _>>();
        let compiler = Compiler { name };
        Ok(Self {
            name: name.to_owned(),
            format: shape.format,
            pattern,
            unfold: shape.unfold.clone(),
            requires: shape.requires.clone(),
            record: compiler.record("record", &shape.record)?,
            events: shape.events.iter().map(|event| compiler.event(event)).collect::<Result<_, _>>()?,
            access: shape.access.clone(),
            routes: routes.map_err(|cause| MappingError::Route { name: name.to_owned(), cause })?,
            shape,
        })
    }
}

#[cfg(test)]
impl Mapping {
    /// eventSource and eventNames as its data says them, templates as they are written: for docs/events.md.
    pub(crate) fn documented(&self) -> (String, Vec<String>) {
        let all =
            |texts: &Option<Texts>| texts.iter().flat_map(Texts::iter).map(|text| text.replace('|', " or ")).collect::<Vec<_>>();
        let source = self.shape.access.service.clone().unwrap_or_else(|| all(&self.shape.record.source).join(", "));
        let events = self.shape.events.iter().flat_map(|event| all(&event.record.name));
        let routes = self.shape.access.routes.iter().filter_map(|route| route.name.clone());
        let mut names = Vec::new();
        for name in events.chain(routes).chain(all(&self.shape.record.name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        (source, names)
    }
}

fn read(path: &Path) -> Result<String, MappingError> {
    use std::io::Read as _;
    let unreadable = |cause| MappingError::Unreadable { path: path.to_owned(), cause };
    let mut text = String::new();
    std::fs::File::open(path).map_err(unreadable)?.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

impl PartialEq for Mapping {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.shape == other.shape
    }
}

impl Eq for Mapping {}

/// Compiles templates and says where a wrong one stands.
struct Compiler<'a> {
    name: &'a str,
}

impl Compiler<'_> {
    fn event(&self, event: &EventShape) -> Result<EventRule, MappingError> {
        let when = event.when.iter().map(|(field, texts)| (field.clone(), texts.iter().map(str::to_owned).collect())).collect();
        Ok(EventRule { when, record: self.record("event", &event.record)? })
    }

    fn record(&self, place: &str, shape: &RecordShape) -> Result<RecordRule, MappingError> {
        let choice = |key: &str, texts: &Option<Texts>| self.choice(&format!("{place}.{key}"), texts.as_ref());
        for (key, texts, words) in
            [("category", &shape.category, CATEGORIES), ("type", &shape.kind, TYPES), ("read_only", &shape.read_only, TRUTHS)]
        {
            let choice = choice(key, texts)?;
            if let Some(other) = choice.iter().filter_map(Template::plain).find(|text| !text.is_empty() && !words.contains(text))
            {
                let why = format!("{place}.{key} is one of {}, not `{other}`", words.join(", "));
                return Err(MappingError::Shape { name: self.name.to_owned(), why });
            }
        }
        Ok(RecordRule {
            source: choice("source", &shape.source)?,
            name: choice("name", &shape.name)?,
            time: choice("time", &shape.time)?,
            address: choice("address", &shape.address)?,
            agent: choice("agent", &shape.agent)?,
            request_id: choice("request_id", &shape.request_id)?,
            error_code: choice("error_code", &shape.error_code)?,
            error_message: choice("error_message", &shape.error_message)?,
            read_only: choice("read_only", &shape.read_only)?,
            category: choice("category", &shape.category)?,
            kind: choice("type", &shape.kind)?,
            identity: shape.identity.as_ref().map(|identity| self.identity(place, identity)).transpose()?,
            parameters: self.members(&format!("{place}.parameters"), shape.parameters.as_ref())?,
            response: self.members(&format!("{place}.response"), shape.response.as_ref())?,
            resources: shape.resources.as_ref().map(|list| self.resources(place, list)).transpose()?,
        })
    }

    fn identity(&self, place: &str, shape: &IdentityShape) -> Result<IdentityRule, MappingError> {
        let choice = |key: &str, texts: &Option<Texts>| self.choice(&format!("{place}.identity.{key}"), texts.as_ref());
        Ok(IdentityRule {
            kind: choice("type", &shape.kind)?,
            name: choice("name", &shape.name)?,
            id: choice("id", &shape.id)?,
            provider: choice("provider", &shape.provider)?,
            access_key: choice("access_key", &shape.access_key)?,
            invoked_by: choice("invoked_by", &shape.invoked_by)?,
        })
    }

    fn resources(&self, place: &str, list: &[ResourceShape]) -> Result<Vec<(String, Choice)>, MappingError> {
        let one = |resource: &ResourceShape| {
            let key = format!("{place}.resources.arn");
            Ok((resource.kind.clone(), self.choice(&key, Some(&resource.arn))?))
        };
        list.iter().map(one).collect()
    }

    fn members(
        &self,
        place: &str,
        members: Option<&BTreeMap<String, Texts>>,
    ) -> Result<Option<Vec<(String, Choice)>>, MappingError> {
        let one = |(name, texts): (&String, &Texts)| {
            // `"*" = "*"`: a member for each field.
            if name == "*" {
                return Ok((name.clone(), Vec::new()));
            }
            Ok((name.clone(), self.choice(&format!("{place}.{name}"), Some(texts))?))
        };
        members.map(|members| members.iter().map(one).collect()).transpose()
    }

    fn choice(&self, key: &str, texts: Option<&Texts>) -> Result<Choice, MappingError> {
        let compiled = |text| {
            Template::parse(text).map_err(|cause| MappingError::Template {
                name: self.name.to_owned(),
                key: key.to_owned(),
                cause,
            })
        };
        texts.map(|texts| texts.iter().map(compiled).collect()).unwrap_or(Ok(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_mapping_compiles_and_says_what_it_is_for() {
        for name in Mapping::shipped() {
            let mapping = Mapping::open(name, AccessShape::default()).unwrap();
            assert!(!mapping.shape.about.is_empty(), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let error = |text: &str| Mapping::parse("own.toml", text, AccessShape::default()).unwrap_err().to_string();
        assert!(error("format = \"jsn\"").contains("jsn"));
        assert!(error("format = \"regex\"").contains("needs `pattern`"));
        assert!(error("format = \"regex\"\npattern = \"(\"").contains("pattern"));
        assert!(error("format = \"json\"\n[record]\nname = \"{open\"").contains("record.name"));
        assert!(error("format = \"json\"\n[record]\nnmae = \"x\"").contains("nmae"));
        assert!(Mapping::open("gitlub", AccessShape::default()).unwrap_err().to_string().contains("gitlab"));
    }
}
