// Every operation of dicomweb-client (npm), on data that dcmjs makes and reads. Arguments: the service root.
// Prints one JSON object on its last line: what each operation gave. The client prints too.
"use strict";

const dcmjs = require("dcmjs");
const { api } = require("dicomweb-client");

global.XMLHttpRequest = require("xhr2");

const { DicomDict, DicomMessage, DicomMetaDictionary } = dcmjs.data;
const ROOT = process.argv[2];
const FRAMES = 3;
const FRAME_BYTES = 32 * 24 * 2;
const MULTI_FRAME_SC = "1.2.840.10008.5.1.4.1.1.7.3";
const study = DicomMetaDictionary.uid();
const series = DicomMetaDictionary.uid();

function part10(instance, number) {
  const pixels = new ArrayBuffer(FRAMES * FRAME_BYTES);
  const words = new Uint16Array(pixels);
  words.forEach((_, place) => { words[place] = (place * 7 + number) % 4096; });
  const dataset = {
    _meta: {},
    _vrMap: { PixelData: "OW" },
    SpecificCharacterSet: "ISO_IR 192",
    SOPClassUID: MULTI_FRAME_SC,
    SOPInstanceUID: instance,
    StudyInstanceUID: study,
    SeriesInstanceUID: series,
    PatientName: "Dcmjs^Jörg",
    PatientID: "JS-1",
    StudyDate: "20260102",
    StudyTime: "101112",
    AccessionNumber: "JS-A",
    StudyID: "1",
    ReferringPhysicianName: "",
    Modality: "OT",
    SeriesNumber: "1",
    InstanceNumber: String(number),
    NumberOfFrames: String(FRAMES),
    BurnedInAnnotation: "NO",
    Rows: 24,
    Columns: 32,
    SamplesPerPixel: 1,
    PhotometricInterpretation: "MONOCHROME2",
    BitsAllocated: 16,
    BitsStored: 12,
    HighBit: 11,
    PixelRepresentation: 0,
    PixelData: pixels,
  };
  const dict = new DicomDict({
    "00020002": { vr: "UI", Value: [MULTI_FRAME_SC] },
    "00020003": { vr: "UI", Value: [instance] },
    "00020010": { vr: "UI", Value: ["1.2.840.10008.1.2.1"] },
    "00020012": { vr: "UI", Value: ["2.25.1"] },
  });
  dict.dict = DicomMetaDictionary.denaturalizeDataset(dataset);
  return dict.write();
}

function natural(buffer) {
  return DicomMetaDictionary.naturalizeDataset(DicomMessage.readFile(buffer).dict);
}

async function main() {
  const client = new api.DICOMwebClient({ url: ROOT, verbose: false });
  const single = new api.DICOMwebClient({ url: ROOT, verbose: false, singlepart: true });
  const instances = [DicomMetaDictionary.uid(), DicomMetaDictionary.uid()];
  const found = { study, series, instances };
  const one = { studyInstanceUID: study, seriesInstanceUID: series, sopInstanceUID: instances[0] };

  const stored = await client.storeInstances({ datasets: instances.map((uid, place) => part10(uid, place + 1)) });
  found.stored = JSON.parse(stored)["00081199"].Value.length;
  const again = await client.storeInstances({ datasets: [part10(instances[0], 1)], studyInstanceUID: study });
  found.storedAgain = JSON.parse(again)["00081199"].Value.length;

  const queryParams = { PatientID: "JS-1", includefield: "StudyDescription", limit: 10 };
  found.studies = (await client.searchForStudies({ queryParams }))
    .map((each) => DicomMetaDictionary.naturalizeDataset(each))
    .map((each) => [each.StudyInstanceUID, String(each.PatientName), each.NumberOfStudyRelatedInstances]);
  found.none = await client.searchForStudies({ queryParams: { PatientID: "nobody" } });
  found.series = (await client.searchForSeries({ studyInstanceUID: study })).length;
  found.found = (await client.searchForInstances({ studyInstanceUID: study, seriesInstanceUID: series })).length;

  found.metadata = [
    (await client.retrieveStudyMetadata({ studyInstanceUID: study })).length,
    (await client.retrieveSeriesMetadata({ studyInstanceUID: study, seriesInstanceUID: series })).length,
    (await client.retrieveInstanceMetadata(one)).length,
  ];
  const [metadata] = await client.retrieveInstanceMetadata(one);

  const whole = natural(await client.retrieveInstance(one));
  found.instance = [whole.SOPInstanceUID, String(whole.PatientName), whole.PixelData[0].byteLength];
  const everything = { studyInstanceUID: study, seriesInstanceUID: series };
  found.retrieved = [
    (await client.retrieveStudy({ studyInstanceUID: study })).map((each) => natural(each).SOPInstanceUID).sort(),
    (await client.retrieveSeries(everything)).map((each) => natural(each).SOPInstanceUID).sort(),
  ];

  const frames = await client.retrieveInstanceFrames({ ...one, frameNumbers: [1, 3] });
  const pixels = Buffer.from(whole.PixelData[0]);
  found.frames = frames.map((frame) => frame.byteLength);
  found.framesAreThePixels = [0, 2].every(
    (place, index) =>
      Buffer.from(frames[index]).equals(pixels.subarray(place * FRAME_BYTES, (place + 1) * FRAME_BYTES)),
  );
  const compressed = await client.retrieveInstanceFrames({
    ...one,
    frameNumbers: [2],
    mediaTypes: [{ mediaType: "image/jls", transferSyntaxUID: "1.2.840.10008.1.2.4.80" }],
  });
  found.jpegLs = Buffer.from(compressed[0]).subarray(0, 4).toString("hex");

  const bulk = await client.retrieveBulkData({ BulkDataURI: metadata["7FE00010"].BulkDataURI });
  found.bulk = [bulk.length, bulk[0].byteLength];
  const alone = await single.retrieveBulkData({ BulkDataURI: metadata["7FE00010"].BulkDataURI });
  found.bulkAlone = [alone.length, alone[0].byteLength];

  const jpeg = [{ mediaType: "image/jpeg" }];
  const png = [{ mediaType: "image/png" }];
  const start = (data) => Buffer.from(Array.isArray(data) ? data[0] : data).subarray(0, 4).toString("hex");
  const size = { viewport: [64, 48] };
  found.rendered = start(await client.retrieveInstanceRendered({ ...one, mediaTypes: png, queryParams: size }));
  found.frameRendered = start(
    await client.retrieveInstanceFramesRendered({ ...one, frameNumbers: [2], mediaTypes: jpeg }),
  );
  found.thumbnail = start(await client.retrieveInstanceThumbnail({ ...one, mediaTypes: jpeg }));
  found.frameThumbnail = start(
    await client.retrieveInstanceFramesThumbnail({ ...one, frameNumbers: [2], mediaTypes: jpeg }),
  );

  const uri = new api.DICOMwebClient({ url: ROOT, wadoURLPrefix: "wado", verbose: false });
  const answer = await fetch(uri.buildInstanceWadoURIUrl(one));
  found.uri = [answer.status, natural(await answer.arrayBuffer()).SOPInstanceUID];

  try {
    await client.retrieveInstance({ ...one, sopInstanceUID: "1.2.3" });
  } catch (error) {
    found.missing = error.status;
  }
  process.stdout.write(`\n${JSON.stringify(found)}\n`);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
