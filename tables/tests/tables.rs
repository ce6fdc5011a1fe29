//! What a table holds is what is read from it again.

use phasescope_tables::{Column, Table, TableError, Texts};

fn table() -> Table {
    let mut t = Table::default();
    let text = ["a, \"b\"", "", "ü\nx"].map(str::to_owned).to_vec();
    t.push("name", Column::Text(text)).unwrap();
    t.push("n", Column::Count(vec![0, 7, u64::MAX])).unwrap();
    let numbers = vec![Some(1.0), None, Some(-2.5e-9)];
    t.push("value", Column::Number(numbers)).unwrap();
    t
}

#[test]
fn columns_fit_each_other() {
    let mut t = table();
    let twice = t.push("n", Column::Count(vec![1, 2, 3]));
    assert!(matches!(twice, Err(TableError::Twice(_))), "{twice:?}");
    let short = t.push("m", Column::Count(vec![1]));
    assert!(matches!(short, Err(TableError::Length(_))), "{short:?}");
    assert!(t.text("n").is_err() && t.number("none").is_err());
    assert_eq!(t.height(), 3);
}

#[test]
fn csv_and_json() {
    let t = table();
    let csv = t.csv().unwrap();
    assert_eq!(
        csv,
        "name,n,value\n\"a, \"\"b\"\"\",0,1.0\n,7,\n\"ü\nx\",18446744073709551615,-2.5e-9\n"
    );
    let read = Texts::read(csv.as_bytes()).unwrap();
    assert_eq!(read.column("name").unwrap(), t.text("name").unwrap());
    assert_eq!(
        read.rows().map(|(line, _)| line).collect::<Vec<_>>(),
        [2, 3, 4]
    );
    let json = t.json();
    assert_eq!(json[1]["value"], serde_json::Value::Null);
    assert_eq!(json[2]["n"], u64::MAX);
}

#[test]
fn what_is_no_csv() {
    let uneven = Texts::read(b"a,b\n1,2\n3\n").unwrap_err().to_string();
    assert!(uneven.contains("line: 3"), "{uneven}");
    assert!(Texts::read(b"a\n\xff\n").is_err());
    assert!(Texts::read(b"").unwrap().column("a").is_err());
}

#[cfg(feature = "polars")]
#[test]
fn parquet_and_arrow() {
    let t = table();
    assert_eq!(Table::read_parquet(t.parquet().unwrap()).unwrap(), t);
    assert_eq!(Table::read_arrow(t.arrow().unwrap()).unwrap(), t);
    assert!(Table::read_parquet(t.arrow().unwrap()).is_err());
}
