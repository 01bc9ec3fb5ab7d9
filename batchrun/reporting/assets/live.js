// -- a running batch: new facts and changed rows, from the page's own server -------------------------

const WATCH_MS = 1_000;
const IDLE_MS = 5_000;
const PATIENCE = 10; // multiple of the time that the server took to answer

async function follow(onNews, onGone) {
  let notes = 0;
  let generation = 0;
  let version = 0;
  let running = null;
  for (;;) {
    let wait = IDLE_MS;
    if (!document.hidden) {
      try {
        const answer = await fetch(`facts?generation=${generation}&after=${version}&notes=${notes}`, { cache: "no-store" });
        if (!answer.ok) throw new Error(String(answer.status));
        const news = await answer.json();
        const state = news.facts === null ? running : news.facts.batch.running; // facts come with the last portion of rows
        if (news.generation !== generation || news.version !== version || state !== running || news.row_notes !== null) onNews(news, news.generation !== generation);
        ({ generation, version } = news);
        notes = news.row_notes?.version ?? notes;
        running = state;
        onGone(null);
        wait = news.more ? 0 : running ? Math.min(Math.max(WATCH_MS, PATIENCE * news.took_ms), IDLE_MS) : IDLE_MS;
      } catch {
        onGone("The viewer has stopped; this was the last state of the batch.");
      }
    }
    if (wait > 0) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, wait);
        document.addEventListener("visibilitychange", () => { clearTimeout(timer); resolve(); }, { once: true });
      });
    }
  }
}
