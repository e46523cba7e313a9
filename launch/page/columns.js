// Knows how the page's columns are packed: base64 of gzip of little-endian whole numbers, one column after another.

const COLUMN_ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f8: Float64Array };

const canInflate = () => typeof DecompressionStream === "function";

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const characters = atob(text);
  const content = new Uint8Array(characters.length);
  for (let place = 0; place < characters.length; place++) content[place] = characters.charCodeAt(place);
  return content;
}

/** Inflates packed columns; resolves to {count, name: typed array, …}; rejects where they are damaged. */
async function readColumns(packed) {
  const read = { count: packed?.count ?? 0 };
  if (!packed || !packed.fields) return read;
  const stream = new Blob([fromBase64(packed.data)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const content = await new Response(stream).arrayBuffer();
  let offset = 0;
  for (const [name, kind] of packed.fields) {
    const Column = COLUMN_ARRAYS[kind];
    const end = offset + packed.count * (Column?.BYTES_PER_ELEMENT ?? NaN);
    if (!(end <= content.byteLength)) throw new Error(`column ${name} is damaged or of an unknown type`);
    read[name] = new Column(content.slice(offset, end));
    offset = end;
  }
  return read;
}
