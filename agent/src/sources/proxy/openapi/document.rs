//! What a description says of its operations: OpenAPI 3 and Swagger 2.0.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::routes::Routes;
use super::{DocumentError, yaml};

/// The members that name requests.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    openapi: Option<String>,
    swagger: Option<String>,
    #[serde(default)]
    servers: Option<Vec<Server>>,
    #[serde(rename = "basePath")]
    base_path: Option<String>,
    #[serde(default)]
    paths: Option<BTreeMap<String, Option<PathItem>>>,
    #[serde(default)]
    components: Option<Components>,
}

#[derive(Debug, Deserialize)]
struct Server {
    url: Option<String>,
    variables: Option<BTreeMap<String, Variable>>,
}

#[derive(Debug, Deserialize)]
struct Variable {
    default: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Components {
    #[serde(rename = "pathItems")]
    path_items: Option<BTreeMap<String, PathItem>>,
}

#[derive(Debug, Deserialize)]
struct PathItem {
    #[serde(rename = "$ref")]
    reference: Option<String>,
    get: Option<Described>,
    put: Option<Described>,
    post: Option<Described>,
    delete: Option<Described>,
    options: Option<Described>,
    head: Option<Described>,
    patch: Option<Described>,
    trace: Option<Described>,
    query: Option<Described>,
}

#[derive(Debug, Deserialize)]
struct Described {
    #[serde(rename = "operationId")]
    id: Option<String>,
}

/// Base paths under which every operation is known; more servers than these say the same in other words.
const BASES_MAX: usize = 8;

/// A reference to a path item within the document. Others are not followed: no request waits for a file or a network.
const PATH_ITEMS: &str = "#/components/pathItems/";

pub(super) fn parse(bytes: &[u8]) -> Result<Document, DocumentError> {
    let text = std::str::from_utf8(bytes).map_err(|error| DocumentError::Syntax(error.to_string()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let shape = |error: serde_json::Error| DocumentError::Shape(error.to_string());
    let document: Document = if text.trim_start().starts_with('{') {
        match serde_json::from_str(text) {
            Ok(document) => document,
            Err(error) if error.is_data() => return Err(shape(error)),
            // YAML may begin with a brace, too.
            Err(error) => {
                let value = yaml::parse(text).map_err(|_| DocumentError::Syntax(error.to_string()))?;
                serde_json::from_value(value).map_err(shape)?
            }
        }
    } else {
        let value = yaml::parse(text)?;
        if !value.is_object() {
            return Err(DocumentError::NotOpenApi);
        }
        serde_json::from_value(value).map_err(shape)?
    };
    if document.openapi.is_none() && document.swagger.is_none() {
        return Err(DocumentError::NotOpenApi);
    }
    Ok(document)
}

impl Document {
    /// Every operation under each base path and, for services behind a gateway that takes it away, without one.
    pub(super) fn routes(&self) -> Result<Routes, DocumentError> {
        let mut routes = Routes::default();
        for base in self.bases() {
            for (path, item) in self.paths.iter().flatten() {
                let Some(item) = item.as_ref().and_then(|item| self.resolved(item)) else { continue };
                if !path.starts_with('/') {
                    continue;
                }
                for (method, described) in item.operations() {
                    routes.add(method, &base, path, described.id.as_deref())?;
                }
            }
        }
        Ok(routes)
    }

    fn resolved<'a>(&'a self, item: &'a PathItem) -> Option<&'a PathItem> {
        let Some(reference) = &item.reference else { return Some(item) };
        let name = reference.strip_prefix(PATH_ITEMS)?;
        self.components.as_ref()?.path_items.as_ref()?.get(name)
    }

    /// Base paths, without a slash at their end; the empty one last.
    fn bases(&self) -> Vec<String> {
        let urls = self.servers.iter().flatten().filter_map(Server::filled).chain(self.base_path.clone());
        let mut bases: Vec<String> = Vec::new();
        for url in urls {
            let base = path_of(&url).trim_end_matches('/').to_owned();
            if !base.is_empty() && !bases.contains(&base) && bases.len() < BASES_MAX {
                bases.push(base);
            }
        }
        bases.push(String::new());
        bases
    }
}

impl Server {
    /// The URL with its variables' defaults.
    fn filled(&self) -> Option<String> {
        let mut url = self.url.clone()?;
        for (name, variable) in self.variables.iter().flatten() {
            if let Some(default) = &variable.default {
                url = url.replace(&format!("{{{name}}}"), default);
            }
        }
        Some(url)
    }
}

impl PathItem {
    fn operations(&self) -> impl Iterator<Item = (&'static str, &Described)> {
        let all = [
            ("GET", &self.get),
            ("PUT", &self.put),
            ("POST", &self.post),
            ("DELETE", &self.delete),
            ("OPTIONS", &self.options),
            ("HEAD", &self.head),
            ("PATCH", &self.patch),
            ("TRACE", &self.trace),
            ("QUERY", &self.query),
        ];
        all.into_iter().filter_map(|(method, described)| Some((method, described.as_ref()?)))
    }
}

/// `/v1` of `https://api.example.com/v1?x`.
fn path_of(url: &str) -> &str {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let behind = match plain.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default(),
        None => plain,
    };
    if behind.starts_with('/') { behind } else { "" }
}
