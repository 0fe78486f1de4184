//! Parquet files: one row group after the other, each column as it was collected.

use crate::batch::{Done, NO_NUMBER, Values, texts};
use crate::shape::{Column, Kind, Shape};
use parquet::basic::Type as Physical;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};
use std::io::{self, Write};
use std::sync::Arc;

/// Rows at which a row group is closed: DuckDB reads groups of 122,880 rows at once, polars likes
/// any size from 100,000 to a million.
const GROUP_ROWS: usize = 500_000;
/// The default of zstd.
const LEVEL: i32 = 3;
/// Rows that are handed to a column's writer at once.
const AT_ONCE: usize = 4096;

/// Writes the batches as a Parquet file; a row group is closed when it exceeds `group_bytes` before
/// compression. How many rows there are.
///
/// # Errors
/// A batch or the file.
pub(crate) fn write(
    out: &mut (impl Write + Send),
    shape: &Shape,
    group_bytes: usize,
    batches: impl Iterator<Item = io::Result<Done>>,
) -> io::Result<u64> {
    let mut file =
        SerializedFileWriter::new(out, schema(shape).map_err(other)?, properties(shape)?)
            .map_err(other)?;
    let (mut group, mut rows, mut bytes, mut all) = (Vec::new(), 0, 0, 0u64);
    for batch in batches {
        let batch = batch?;
        rows += batch.rows;
        bytes += batch.bytes;
        group.push(batch);
        if rows >= GROUP_ROWS || bytes >= group_bytes {
            all += rows as u64;
            write_group(&mut file, shape, &std::mem::take(&mut group)).map_err(other)?;
            (rows, bytes) = (0, 0);
        }
    }
    if !group.is_empty() {
        all += rows as u64;
        write_group(&mut file, shape, &group).map_err(other)?;
    }
    file.close().map_err(other)?;
    Ok(all)
}

fn other(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}

fn schema(shape: &Shape) -> Result<TypePtr, ParquetError> {
    let fields: Result<Vec<TypePtr>, ParquetError> = shape
        .columns
        .iter()
        .map(|column| {
            let (physical, logical) = match column.kind {
                Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
                Kind::Time => (
                    Physical::INT64,
                    Some(LogicalType::timestamp(true, TimeUnit::MILLIS)),
                ),
                Kind::Number => (Physical::INT64, None),
            };
            let repetition = match column.is_optional {
                true => Repetition::OPTIONAL,
                false => Repetition::REQUIRED,
            };
            Type::primitive_type_builder(column.name, physical)
                .with_logical_type(logical)
                .with_repetition(repetition)
                .build()
                .map(Arc::new)
        })
        .collect();
    Type::group_type_builder("record")
        .with_fields(fields?)
        .build()
        .map(Arc::new)
}

fn properties(shape: &Shape) -> io::Result<WriterPropertiesPtr> {
    let level = ZstdLevel::try_new(LEVEL).map_err(other)?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(concat!("skyfill ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for column in &shape.columns {
        let path = || ColumnPath::from(column.name);
        if column.is_unique {
            properties = properties.set_column_dictionary_enabled(path(), false);
        }
        if column.kind != Kind::Text {
            properties = properties.set_column_encoding(path(), Encoding::DELTA_BINARY_PACKED);
        }
        // Bounds of hashes and of JSON exclude nothing.
        if matches!(column.name, "cid" | "record") {
            properties = properties.set_column_statistics_enabled(path(), EnabledStatistics::None);
        }
    }
    Ok(Arc::new(properties.build()))
}

fn write_group<W: Write + Send>(
    file: &mut SerializedFileWriter<W>,
    shape: &Shape,
    group: &[Done],
) -> Result<(), ParquetError> {
    let mut to = file.next_row_group()?;
    for (at, column) in shape.columns.iter().enumerate() {
        let Some(mut writer) = to.next_column()? else {
            return Err(ParquetError::General("a column is missing".to_owned()));
        };
        for batch in group {
            match batch.columns.get(at) {
                Some(Values::Text(bytes, lengths)) => {
                    let mut all = texts(bytes, lengths).map(|text| text.map(ByteArray::from));
                    write_texts(&mut writer, column, &mut all)?;
                }
                Some(Values::Numbers(numbers)) => write_numbers(&mut writer, numbers)?,
                None => return Err(ParquetError::General("a column is missing".to_owned())),
            }
        }
        writer.close()?;
    }
    to.close()?;
    Ok(())
}

fn write_texts(
    writer: &mut SerializedColumnWriter<'_>,
    column: &Column,
    all: &mut dyn Iterator<Item = Option<ByteArray>>,
) -> Result<(), ParquetError> {
    let (mut values, mut levels) = (Vec::with_capacity(AT_ONCE), Vec::with_capacity(AT_ONCE));
    loop {
        values.clear();
        levels.clear();
        for text in all.take(AT_ONCE) {
            levels.push(i16::from(text.is_some()));
            values.extend(text);
        }
        if levels.is_empty() {
            return Ok(());
        }
        let levels = column.is_optional.then_some(levels.as_slice());
        writer
            .typed::<ByteArrayType>()
            .write_batch(&values, levels, None)?;
    }
}

fn write_numbers(
    writer: &mut SerializedColumnWriter<'_>,
    numbers: &[i64],
) -> Result<(), ParquetError> {
    let (mut values, mut levels) = (Vec::with_capacity(AT_ONCE), Vec::with_capacity(AT_ONCE));
    for numbers in numbers.chunks(AT_ONCE) {
        values.clear();
        levels.clear();
        for number in numbers {
            levels.push(i16::from(*number != NO_NUMBER));
            values.extend((*number != NO_NUMBER).then_some(*number));
        }
        writer
            .typed::<Int64Type>()
            .write_batch(&values, Some(&levels), None)?;
    }
    Ok(())
}
