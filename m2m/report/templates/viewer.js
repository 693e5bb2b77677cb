// The viewer: NiiVue with one participant's maps and streamlines, and controls that work with the keyboard.
(() => {
  const section = document.getElementById("viewer");
  const part = (name) => section.querySelector(`[data-part="${name}"]`);
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const status = part("status");
  const views = { planes: 3, axial: 0, coronal: 1, sagittal: 2, render: 4 };
  const axes = ["x", "y", "z"];
  let viewer = null;

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  async function createViewer() {
    const module = new Blob([await unpack(data.module)], { type: "text/javascript" });
    const { Niivue } = await import(URL.createObjectURL(module));
    const niivue = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.35, 0.75, 1, 1],
      crosshairWidth: 0.5,
      crosshairWidthUnit: "mm",
      dragAndDropEnabled: false,
      isColorbar: true,
      isRadiologicalConvention: false,
      multiplanarLayout: 2,
      multiplanarShowRender: 1,
      scrollRequiresFocus: true,
      show3Dcrosshair: true,
      viewModeHotKey: "",
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      logLevel: "error",
    });
    await niivue.attachToCanvas(part("canvas"), true);
    // Black is no error, red too high, blue too low.
    niivue.addColormap("above", { R: [0, 230, 255], G: [0, 60, 225], B: [0, 30, 140],
      A: [0, 128, 255], I: [0, 140, 255] });
    niivue.addColormap("below", { R: [0, 40, 170], G: [0, 110, 235], B: [0, 240, 255],
      A: [0, 128, 255], I: [0, 140, 255] });
    niivue.setScale(1.2);
    niivue.onLocationChange = showValues;
    niivue.onAzimuthElevationChange = (azimuth, elevation) => {
      part("azimuth").value = ((azimuth % 360) + 360) % 360;
      part("elevation").value = elevation;
    };
    return niivue;
  }

  // Shows the position of the crosshair and the value of every map there.
  function showValues(place) {
    axes.forEach((axis, i) => { part(axis).value = place.mm[i]; });
    const values = data.layers.flatMap(({ key, title }) => {
      const found = place.values.find(({ name }) => name === `${key}.nii`);
      return found ? [`${title} ${found.value.toFixed(3)}`] : [];
    });
    const position = axes.map((axis, i) => `${axis} ${place.mm[i].toFixed(0)}`).join(", ");
    part("values").textContent = `${position} mm: ${values.join("; ")}`;
  }

  const subject = () => data.subjects[part("subject").value];

  async function showSubject() {
    const chosen = subject();
    const previous = viewer.volumes.length ? viewer.frac2mm(viewer.scene.crosshairPos).slice(0, 3) : null;
    while (viewer.volumes.length) viewer.removeVolume(viewer.volumes[0]);
    for (const { key, colours, below, low, high } of data.layers) {
      if (!(key in chosen.maps)) continue;
      await viewer.addVolumeFromUrl({
        url: `${key}.nii`, name: `${key}.nii`, buffer: await unpack(chosen.maps[key]),
        colormap: colours, colormapNegative: below, cal_min: low, cal_max: high, opacity: 0,
      });
    }
    axes.forEach((axis, i) => {
      [part(axis).min, part(axis).max] = chosen.extent[i];
    });
    const lines = part("streamlines");
    const before = lines.value;
    lines.replaceChildren(new Option("none", ""), ...Object.keys(chosen.streamlines).map(
      (name) => new Option(name, name)));
    if (before in chosen.streamlines) lines.value = before;
    lines.disabled = lines.length < 2;
    showMap();
    await showTractogram();
    goTo(previous ?? chosen.extent.map(([low, high]) => (low + high) / 2));
  }

  function showMap() {
    const wanted = part("map").value;
    viewer.volumes.forEach((volume, i) => {
      const on = volume.name === `${wanted}.nii`;
      volume.opacity = i === 0 ? 1 : on ? Number(part("opacity").value) / 100 : 0;
      volume.colorbarVisible = on;
    });
    part("opacity").disabled = wanted === "t1";
    viewer.updateGLVolume();
  }

  // A tractogram of the participant has bundles of its own, and the one that was chosen stays if it is among them.
  async function showTractogram() {
    const bundles = part("bundle");
    const before = bundles.value;
    const names = Object.keys(subject().streamlines[part("streamlines").value] ?? {});
    bundles.replaceChildren(new Option("all", ""), ...names.map((name) => new Option(name.replaceAll("_", " "), name)));
    bundles.value = names.includes(before) ? before : "";
    bundles.disabled = names.length < 2;
    await showStreamlines();
  }

  async function showStreamlines() {
    while (viewer.meshes.length) viewer.removeMesh(viewer.meshes[0]);
    const bundles = subject().streamlines[part("streamlines").value] ?? {};
    const chosen = part("bundle").value;
    const wanted = chosen ? [chosen] : Object.keys(bundles);
    // Streamlines lie inside the brain: they are drawn through the volume.
    viewer.opts.meshXRay = wanted.length ? 0.8 : 0;
    for (const name of wanted) {
      const buffer = await unpack(bundles[name]);
      const mesh = await viewer.addMeshFromUrl({ url: "lines.tck", name: "lines.tck", buffer });
      viewer.setMeshProperty(mesh.id, "fiberColor", "Local");
      viewer.setMeshProperty(mesh.id, "fiberRadius", 0.4);
    }
    viewer.setMeshThicknessOn2D(3);
    viewer.drawScene();
  }

  function goTo(mm) {
    viewer.scene.crosshairPos = viewer.mm2frac(mm);
    viewer.createOnLocationChange();
    viewer.drawScene();
  }

  const rotate = () => viewer.setRenderAzimuthElevation(
    Number(part("azimuth").value), Number(part("elevation").value));

  // Changes run one after the other: unpacking a participant's maps takes a moment.
  let last = Promise.resolve();
  const queued = (change) => () => {
    last = last.then(change).catch(failed);
  };

  function failed(error) {
    status.textContent = `The viewer cannot be shown: ${error.message ?? error}`;
    section.dataset.state = "failed";
  }

  async function begin() {
    section.dataset.state = "starting";
    status.textContent = "Loading the viewer.";
    if (!document.createElement("canvas").getContext("webgl2")) {
      throw new Error("this browser has no WebGL 2.");
    }
    viewer = await createViewer();
    await showSubject();
    rotate();
    part("subject").addEventListener("change", queued(showSubject));
    part("map").addEventListener("change", queued(showMap));
    part("opacity").addEventListener("input", queued(showMap));
    part("streamlines").addEventListener("change", queued(showTractogram));
    part("bundle").addEventListener("change", queued(showStreamlines));
    part("view").addEventListener("change", queued(
      () => viewer.setSliceType(views[part("view").value])));
    for (const axis of axes) {
      part(axis).addEventListener("input", queued(
        () => goTo(axes.map((name) => Number(part(name).value)))));
    }
    for (const angle of ["azimuth", "elevation"]) part(angle).addEventListener("input", queued(rotate));
    status.textContent = "";
    section.dataset.state = "ready";
  }

  // The viewer starts when it becomes visible, so that a page that is only read needs no memory for it.
  part("controls").hidden = false;
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    begin().catch(failed);
  }).observe(part("frame"));
})();
