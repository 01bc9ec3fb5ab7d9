// -- a batch that runs: new facts and changed rows, from the server that this page came from -------------------------

const WATCH_MS = 1_000;
const IDLE_MS = 5_000;

async function follow(onNews, onGone) {
  let generation = 0;
  let version = 0;
  for (;;) {
    let wait = IDLE_MS;
    if (!document.hidden) {
      try {
        const answer = await fetch(`facts?generation=${generation}&after=${version}`, { cache: "no-store" });
        if (!answer.ok) throw new Error(String(answer.status));
        const news = await answer.json();
        if (news.generation !== generation || news.version !== version || generation === 0) onNews(news, news.generation !== generation);
        ({ generation, version } = news);
        onGone(null);
        wait = news.more ? 0 : Math.max(news.facts.batch.running ? WATCH_MS : IDLE_MS, 10 * news.took_ms);
      } catch {
        onGone("The viewer has ended; this is how the batch stood.");
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
