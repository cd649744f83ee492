// What dcmjs-dimse has of DIMSE, against a gateway: node dimse.cjs PORT OWN_PORT [KEY CERTIFICATE AUTHORITY]
"use strict";
const fs = require("node:fs");
const dcmjsDimse = require("dcmjs-dimse");

const { Client, Dataset, Scp, Server } = dcmjsDimse;
const { CEchoRequest, CFindRequest, CGetRequest, CMoveRequest, CStoreRequest } = dcmjsDimse.requests;
const { CStoreResponse } = dcmjsDimse.responses;
const { Status, StorageClass, TransferSyntax, PresentationContextResult } = dcmjsDimse.constants;
dcmjsDimse.log.level = "error";

const [port, ownPort] = process.argv.slice(2, 4).map(Number);
const [key, cert, ca] = process.argv.slice(4).map((file) => fs.readFileSync(file));
const secured = key ? { securityOptions: { key, cert, ca, rejectUnauthorized: true, minVersion: "TLSv1.2" } } : {};
const uid = () => Dataset.generateDerivedUid();
const study = uid();
const series = uid();
const images = [uid(), uid(), uid()].map(
  (sop, number) =>
    new Dataset(
      {
        _vrMap: { PixelData: "OW" },
        SOPClassUID: StorageClass.CtImageStorage, SOPInstanceUID: sop, StudyInstanceUID: study, SeriesInstanceUID: series,
        PatientID: "JS-DIMSE", PatientName: "Dimse^Jo", Modality: "CT", InstanceNumber: String(number),
        Rows: 2, Columns: 2, BitsAllocated: 16, BitsStored: 16, HighBit: 15, PixelRepresentation: 0, SamplesPerPixel: 1,
        PhotometricInterpretation: "MONOCHROME2", PixelData: [new Uint16Array([number, 2, 3, 4]).buffer],
      },
      TransferSyntax.ExplicitVRLittleEndian
    )
);

const moved = [];
class Destination extends Scp {
  associationRequested(association) {
    for (const { id } of association.getPresentationContexts()) {
      const context = association.getPresentationContext(id);
      const syntax = context.getTransferSyntaxUids().find((each) => each === TransferSyntax.ExplicitVRLittleEndian);
      if (syntax) {
        context.setResult(PresentationContextResult.Accept, syntax);
      } else {
        context.setResult(PresentationContextResult.RejectTransferSyntaxesNotSupported);
      }
    }
    this.sendAssociationAccept();
  }
  cStoreRequest(request, callback) {
    moved.push(request.getDataset().getElement("SOPInstanceUID"));
    const response = CStoreResponse.fromRequest(request);
    response.setStatus(Status.Success);
    callback(response);
  }
  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
  }
}

function run(...requests) {
  return new Promise((resolve, reject) => {
    const client = new Client();
    const stored = [];
    client.on("networkError", reject);
    client.on("associationRejected", (why) => reject(new Error(JSON.stringify(why))));
    client.on("cStoreRequest", (request, callback) => {
      stored.push(request.getDataset().getElement("SOPInstanceUID"));
      const response = CStoreResponse.fromRequest(request);
      response.setStatus(Status.Success);
      callback(response);
    });
    const statuses = requests.map(() => []);
    const found = [];
    requests.forEach((request, place) => {
      request.on("response", (response) => {
        statuses[place].push(response.getStatus());
        if (response.getStatus() === Status.Pending && response.hasDataset()) {
          found.push(response.getDataset().getElement("StudyInstanceUID"));
        }
      });
      client.addRequest(request);
    });
    client.on("closed", () => resolve({ statuses: statuses.map((each) => each[each.length - 1]), found, stored }));
    client.send("localhost", port, "JSDIMSE", "GATEWAY", secured);
  });
}

(async () => {
  const server = new Server(Destination);
  server.listen(ownPort, key ? { securityOptions: { ...secured.securityOptions, requestCert: true } } : {});
  const echoed = await run(new CEchoRequest());
  const stored = await run(...images.map((each) => new CStoreRequest(each)));
  const found = await run(CFindRequest.createStudyFindRequest({ PatientID: "JS-DIMSE", StudyInstanceUID: "" }));
  const gotten = await run(CGetRequest.createStudyGetRequest(study));
  const sent = await run(CMoveRequest.createStudyMoveRequest("JSDEST", study));
  server.close();
  console.log(
    JSON.stringify({
      study, images: images.map((each) => each.getElement("SOPInstanceUID")),
      statuses: [echoed, stored, found, gotten, sent].map((each) => each.statuses),
      found: found.found, gotten: gotten.stored, moved,
    })
  );
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
