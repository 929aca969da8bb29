//! The little XML that S3 and STS answer: elements and text, escaped.

/// Characters that XML 1.0 does not allow at all are written as U+FFFD: a reader must be able to parse the rest.
pub(crate) fn escape(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => output.push_str("&amp;"),
            '<' => output.push_str("&lt;"),
            '>' => output.push_str("&gt;"),
            '"' => output.push_str("&quot;"),
            '\r' => output.push_str("&#13;"),
            '\t' | '\n' => output.push(character),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => output.push('\u{fffd}'),
            _ => output.push(character),
        }
    }
    output
}

/// A document being written, element by element.
#[derive(Debug)]
pub(crate) struct Document {
    text: String,
    open: Vec<&'static str>,
}

impl Document {
    /// `root` is the element's name, `namespace` its default one.
    pub(crate) fn new(root: &'static str, namespace: Option<&str>) -> Self {
        let namespace = namespace.map(|namespace| format!(" xmlns=\"{}\"", escape(namespace))).unwrap_or_default();
        Self { text: format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}{namespace}>"), open: vec![root] }
    }

    pub(crate) fn element(&mut self, name: &'static str, text: &str) -> &mut Self {
        for part in ["<", name, ">", &escape(text), "</", name, ">"] {
            self.text.push_str(part);
        }
        self
    }

    pub(crate) fn optional(&mut self, name: &'static str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.element(name, text),
            None => self,
        }
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.text.push_str(&escape(text));
        self
    }

    pub(crate) fn begin(&mut self, name: &'static str) -> &mut Self {
        for part in ["<", name, ">"] {
            self.text.push_str(part);
        }
        self.open.push(name);
        self
    }

    pub(crate) fn end(&mut self) -> &mut Self {
        if let Some(name) = self.open.pop() {
            for part in ["</", name, ">"] {
                self.text.push_str(part);
            }
        }
        self
    }

    pub(crate) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.end();
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_elements_are_closed() {
        let mut document = Document::new("A", Some("urn:x"));
        document.begin("B").element("C", "a<b>&\"\u{1}");
        assert_eq!(
            document.finish(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<A xmlns=\"urn:x\"><B><C>a&lt;b&gt;&amp;&quot;\u{fffd}</C></B></A>"
        );
    }
}
