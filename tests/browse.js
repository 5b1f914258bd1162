// Opens every page of the site in a frame of a phone's width and tells what is wrong there.
async function browse(pages) {
  const faults = [], seen = new Map();
  const frame = document.createElement("iframe");
  frame.style.cssText = "width: 390px; height: 800px; border: 0";
  document.body.append(frame);
  for (const page of pages) {
    await new Promise((loaded) => { frame.onload = loaded; frame.src = page; });
    const inside = frame.contentDocument;
    for (const image of inside.images) {
      image.loading = "eager";
      await image.decode().catch(() => faults.push(`${page}: ${image.src} does not load`));
    }
    const width = inside.documentElement.scrollWidth;
    if (width > 390) faults.push(`${page}: ${width} pixels wide on a phone of 390`);
    for (const link of inside.querySelectorAll("a[href]")) {
      const url = new URL(link.href);
      if (url.origin !== location.origin) continue;
      if (!seen.has(url.pathname)) {
        const answer = await fetch(url.pathname);
        const text = answer.ok ? await answer.text() : "";
        seen.set(url.pathname, answer.ok && new DOMParser().parseFromString(text, "text/html"));
      }
      const target = seen.get(url.pathname), place = decodeURIComponent(url.hash.slice(1));
      if (!target) faults.push(`${page}: ${url.pathname} is not there`);
      else if (place && !target.getElementById(place)) faults.push(`${page}: ${url.pathname} has no ${place}`);
    }
  }
  await fetch("/found", { method: "POST", body: JSON.stringify({ links: seen.size, faults }) });
}
