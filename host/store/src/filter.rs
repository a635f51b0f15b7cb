//! `Filter`: which records, as containerd and BuildKit write it: `type==regular,inuse!=true`, terms joined by comma.
use crate::usage::UsageRecord;

/// Terms that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: Field,
    test: Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Type,
    Description,
    Parent,
    InUse,
    Shared,
    Private,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    /// The field alone: it is true, or not empty.
    Present,
    Is(String),
    IsNot(String),
    /// `~=`: a part of it.
    Contains(String),
}

/// Not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// An unknown field.
    #[error("`{0}` is no field of a record; there are id, type, description, parent, inuse, shared, private")]
    Field(String),
    /// A term without meaning.
    #[error("`{0}` is no filter; wanted FIELD, FIELD==VALUE, FIELD!=VALUE or FIELD~=TEXT")]
    Term(String),
}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        text.split(',').map(str::trim).map(term).collect::<Result<_, _>>().map(Self)
    }
}

fn term(text: &str) -> Result<Term, FilterError> {
    let value = |value: &str| value.trim_matches('"').to_owned();
    let (name, test) = if let Some((name, found)) = text.split_once("!=") {
        (name, Test::IsNot(value(found)))
    } else if let Some((name, found)) = text.split_once("~=") {
        (name, Test::Contains(value(found)))
    } else if let Some((name, found)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (name, Test::Is(value(found)))
    } else {
        (text, Test::Present)
    };
    let field = match name.trim().to_ascii_lowercase().as_str() {
        "" => return Err(FilterError::Term(text.to_owned())),
        "id" => Field::Id,
        "type" => Field::Type,
        "description" => Field::Description,
        "parent" | "parents" => Field::Parent,
        "inuse" => Field::InUse,
        "shared" => Field::Shared,
        "private" => Field::Private,
        _ => return Err(FilterError::Field(name.trim().to_owned())),
    };
    Ok(Term { field, test })
}

impl Filter {
    /// Whether every term holds of `record`.
    pub fn fits(&self, record: &UsageRecord) -> bool {
        self.0.iter().all(|term| {
            let values = match term.field {
                Field::Id => vec![record.id.clone()],
                Field::Type => vec![record.kind.to_string()],
                Field::Description => vec![record.description.clone()],
                Field::Parent => record.parents.clone(),
                Field::InUse => vec![record.in_use.to_string()],
                Field::Shared => vec![record.shared.to_string()],
                Field::Private => vec![(!record.shared).to_string()],
            };
            match &term.test {
                Test::Present => values.iter().any(|value| !value.is_empty() && value != "false"),
                Test::Is(wanted) => values.iter().any(|value| value == wanted),
                Test::IsNot(wanted) => values.iter().all(|value| value != wanted),
                Test::Contains(wanted) => values.iter().any(|value| value.contains(wanted.as_str())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::RecordKind;

    #[test]
    fn terms_are_joined_by_and() {
        let record = UsageRecord {
            id: "7".into(),
            kind: RecordKind::Regular,
            size: 1,
            shared: false,
            in_use: true,
            created: 0,
            last_used: 0,
            uses: 0,
            description: "[2/3] RUN make".into(),
            parents: vec!["3".into()],
        };
        let fits = |text: &str| text.parse::<Filter>().expect("a filter").fits(&record);
        for text in [
            "type==regular",
            "type=regular,inuse",
            "id==7",
            "description~=RUN make",
            "parent==3",
            "private",
            "shared!=true",
        ] {
            assert!(fits(text), "{text}");
        }
        for text in ["type==frontend", "inuse==false", "shared", "id!=7", "type==regular,id==8"] {
            assert!(!fits(text), "{text}");
        }
        assert_eq!("typ==x".parse::<Filter>(), Err(FilterError::Field("typ".into())));
        assert!("==x".parse::<Filter>().is_err());
    }
}
