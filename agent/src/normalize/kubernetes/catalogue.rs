//! What a request is called: the Kubernetes part of docs/events.md, which a test compares with these tables.

use crate::sources::kubernetes::ObjectRef;

/// Resources of the API server itself: the name in paths and the kind.
pub(super) const KINDS: &[(&str, &str)] = &[
    ("apiservices", "ApiService"),
    ("bindings", "Binding"),
    ("certificatesigningrequests", "CertificateSigningRequest"),
    ("clusterrolebindings", "ClusterRoleBinding"),
    ("clusterroles", "ClusterRole"),
    ("clustertrustbundles", "ClusterTrustBundle"),
    ("componentstatuses", "ComponentStatus"),
    ("configmaps", "ConfigMap"),
    ("controllerrevisions", "ControllerRevision"),
    ("cronjobs", "CronJob"),
    ("csidrivers", "CsiDriver"),
    ("csinodes", "CsiNode"),
    ("csistoragecapacities", "CsiStorageCapacity"),
    ("customresourcedefinitions", "CustomResourceDefinition"),
    ("daemonsets", "DaemonSet"),
    ("deployments", "Deployment"),
    ("deviceclasses", "DeviceClass"),
    ("endpoints", "Endpoints"),
    ("endpointslices", "EndpointSlice"),
    ("events", "Event"),
    ("flowschemas", "FlowSchema"),
    ("horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    ("ingressclasses", "IngressClass"),
    ("ingresses", "Ingress"),
    ("ipaddresses", "IpAddress"),
    ("jobs", "Job"),
    ("leases", "Lease"),
    ("limitranges", "LimitRange"),
    ("localsubjectaccessreviews", "LocalSubjectAccessReview"),
    ("mutatingadmissionpolicies", "MutatingAdmissionPolicy"),
    ("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding"),
    ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
    ("namespaces", "Namespace"),
    ("networkpolicies", "NetworkPolicy"),
    ("nodes", "Node"),
    ("persistentvolumeclaims", "PersistentVolumeClaim"),
    ("persistentvolumes", "PersistentVolume"),
    ("poddisruptionbudgets", "PodDisruptionBudget"),
    ("pods", "Pod"),
    ("podsecuritypolicies", "PodSecurityPolicy"),
    ("podtemplates", "PodTemplate"),
    ("priorityclasses", "PriorityClass"),
    ("prioritylevelconfigurations", "PriorityLevelConfiguration"),
    ("replicasets", "ReplicaSet"),
    ("replicationcontrollers", "ReplicationController"),
    ("resourceclaims", "ResourceClaim"),
    ("resourceclaimtemplates", "ResourceClaimTemplate"),
    ("resourcequotas", "ResourceQuota"),
    ("resourceslices", "ResourceSlice"),
    ("rolebindings", "RoleBinding"),
    ("roles", "Role"),
    ("runtimeclasses", "RuntimeClass"),
    ("secrets", "Secret"),
    ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("selfsubjectreviews", "SelfSubjectReview"),
    ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    ("serviceaccounts", "ServiceAccount"),
    ("servicecidrs", "ServiceCidr"),
    ("services", "Service"),
    ("statefulsets", "StatefulSet"),
    ("storageclasses", "StorageClass"),
    ("storageversions", "StorageVersion"),
    ("subjectaccessreviews", "SubjectAccessReview"),
    ("tokenreviews", "TokenReview"),
    ("validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
    ("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
    ("validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
    ("volumeattachments", "VolumeAttachment"),
    ("volumeattributesclasses", "VolumeAttributesClass"),
];

/// Subresources that are acts of their own, whatever the verb: the verb of the name.
pub(super) const ACTS: &[(&str, &str)] = &[
    ("exec", "Exec"),
    ("attach", "Attach"),
    ("portforward", "PortForward"),
    ("proxy", "Proxy"),
    ("eviction", "Evict"),
    ("binding", "Bind"),
];

/// Reviews answer a question and change nothing, though they are created: the API server's own and OpenShift's. An object
/// of another group may be called so, too.
const REVIEWS_END: &str = "reviews";
const REVIEW_GROUPS: &[&str] = &[
    "authentication.k8s.io",
    "authorization.k8s.io",
    "authorization.openshift.io",
    "oauth.openshift.io",
    "security.openshift.io",
];

/// PascalCase verb and noun, such as `CreatePod`, `ListSecrets`, `ExecPod`, `GetPodLog`; `GetPath` of what is no resource.
pub(super) fn event_name(verb: &str, object: Option<&ObjectRef>) -> String {
    let Some(object) = object.filter(|object| !object.resource.is_empty()) else {
        return format!("{}Path", pascal(verb));
    };
    let kind = kind(&object.resource);
    if let Some((_, act)) = ACTS.iter().find(|(subresource, _)| *subresource == object.subresource) {
        return format!("{act}{kind}");
    }
    let below = pascal(&object.subresource);
    match verb {
        "list" | "watch" => format!("{}{}{below}", pascal(verb), plural(&kind)),
        "deletecollection" => format!("Delete{}{below}", plural(&kind)),
        _ => format!("{}{kind}{below}", pascal(verb)),
    }
}

/// The kind of a resource: of one that is not the API server's own, the singular of its name.
pub(super) fn kind(resource: &str) -> String {
    match KINDS.binary_search_by_key(&resource, |(name, _)| name) {
        Ok(at) => KINDS.get(at).map(|(_, kind)| (*kind).to_owned()).unwrap_or_default(),
        Err(_) => pascal(&singular(resource)),
    }
}

/// Whether nothing can have changed.
pub(super) fn is_read_only(verb: &str, object: Option<&ObjectRef>) -> bool {
    let is_act = object.is_some_and(|object| ACTS.iter().any(|(subresource, _)| *subresource == object.subresource));
    match verb {
        "get" | "list" | "watch" | "head" | "options" => !is_act,
        "create" => object.is_some_and(is_review),
        _ => false,
    }
}

fn is_review(object: &ObjectRef) -> bool {
    let is_known = || KINDS.binary_search_by_key(&object.resource.as_str(), |(name, _)| name).is_ok();
    let is_of_group = if object.api_group.is_empty() { is_known() } else { REVIEW_GROUPS.contains(&object.api_group.as_str()) };
    object.resource.ends_with(REVIEWS_END) && is_of_group
}

/// Letters and digits, each word's first in upper case.
fn pascal(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
        })
        .collect()
}

fn plural(kind: &str) -> String {
    let vowel_before_y = kind.ends_with("ay") || kind.ends_with("ey") || kind.ends_with("oy");
    match kind {
        "Endpoints" => kind.to_owned(),
        _ if kind.ends_with('y') && !vowel_before_y => format!("{}ies", kind.strip_suffix('y').unwrap_or(kind)),
        _ if ["s", "x", "ch", "sh"].iter().any(|end| kind.ends_with(end)) => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

/// As controller tools make plurals, the other way round.
fn singular(resource: &str) -> String {
    if let Some(stem) = resource.strip_suffix("ies") {
        return format!("{stem}y");
    }
    if let Some(stem) = resource.strip_suffix("es")
        && ["ss", "x", "ch", "sh"].iter().any(|end| stem.ends_with(end))
    {
        return stem.to_owned();
    }
    resource.strip_suffix('s').filter(|stem| !stem.ends_with('s')).unwrap_or(resource).to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn name(verb: &str, resource: &str, subresource: &str) -> String {
        let object = ObjectRef { resource: resource.to_owned(), subresource: subresource.to_owned(), ..ObjectRef::default() };
        event_name(verb, Some(&object))
    }

    #[test]
    fn names_are_verb_and_noun() {
        assert!(KINDS.is_sorted(), "searched by halves");
        assert_eq!(name("create", "pods", ""), "CreatePod");
        assert_eq!(name("list", "networkpolicies", ""), "ListNetworkPolicies");
        assert_eq!(name("watch", "ingresses", ""), "WatchIngresses");
        assert_eq!(name("list", "endpoints", ""), "ListEndpoints");
        assert_eq!(name("deletecollection", "pods", ""), "DeletePods");
        assert_eq!(name("create", "pods", "exec"), "ExecPod");
        assert_eq!(name("get", "pods", "log"), "GetPodLog");
        assert_eq!(name("create", "serviceaccounts", "token"), "CreateServiceAccountToken");
        assert_eq!(name("patch", "certificates", ""), "PatchCertificate");
        assert_eq!(name("get", "gatewayclasses", "status"), "GetGatewayclassStatus");
        assert_eq!(event_name("get", None), "GetPath");
        assert_eq!(event_name("get", Some(&ObjectRef::default())), "GetPath");
    }

    #[test]
    fn reading_is_told_from_acting() {
        let object = |resource: &str, subresource: &str| ObjectRef {
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            ..ObjectRef::default()
        };
        assert!(is_read_only("get", Some(&object("secrets", ""))) && is_read_only("get", None));
        assert!(is_read_only("create", Some(&object("subjectaccessreviews", ""))));
        let own = ObjectRef { api_group: "shop.example".to_owned(), ..object("reviews", "") };
        assert!(!is_read_only("create", Some(&own)) && !is_read_only("create", Some(&object("reviews", ""))));
        let group = "authorization.k8s.io".to_owned();
        assert!(is_read_only("create", Some(&ObjectRef { api_group: group, ..object("selfsubjectrulesreviews", "") })));
        assert!(!is_read_only("get", Some(&object("pods", "exec"))) && !is_read_only("create", Some(&object("pods", ""))));
    }

    #[test]
    fn the_catalogue_is_documented() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, section) = text.split_once("\n## From Kubernetes\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        for (subresource, act) in ACTS {
            assert!(section.contains(&format!("`{act}")) && section.contains(subresource), "{act}");
        }
        let kinds: Vec<&str> =
            section.split("Kinds: ").nth(1).unwrap().split(['.']).next().unwrap().split(',').map(str::trim).collect();
        let known: Vec<&str> = KINDS.iter().map(|(_, kind)| *kind).collect();
        assert_eq!(kinds, known);
    }
}
