"""Losses and metrics as loops written from their formulas, for those of the package to be compared with."""

import math
import statistics

import numpy as np

SMOOTHING = {
    "exp": lambda c, strength: 1 - math.exp(-strength * c),
    "gaussian": lambda c, _: math.exp(-c * c / 2) / math.sqrt(2 * math.pi),
    "laplace": lambda c, _: math.exp(-abs(c)) / 2,
    "sigmoid": lambda c, _: 1 / (1 + math.exp(-c)),
}


def slow_loss(x, y, temperature, mask, text, prior):
    """Sums over i and j, one at a time, in double precision."""
    x, y, text = (np.asarray(t, np.float64) for t in (x, y, text))
    rows = [i for i in range(len(x)) if mask[i]]
    if not rows:
        return 0.0

    def cosine(a, b):
        return a @ b / math.sqrt(a @ a) / math.sqrt(b @ b)

    total = 0.0
    for i in rows:
        target = {}
        for j in rows:
            if i == j:
                target[j] = 1.0
            elif prior is None or not text[i].any() or not text[j].any():
                target[j] = 0.0
            else:
                c = max(np.corrcoef(text[i], text[j])[0, 1], 0.0)
                scale = (temperature if prior.scale_by_temperature else 1) * (
                    prior.batch_size / len(rows) if prior.batch_size else 1
                )
                target[j] = scale * SMOOTHING[prior.smoothing](c, prior.strength)
        if prior is not None and prior.normalise:
            mass = sum(target.values())
            target = {j: value / mass for j, value in target.items()}
        for a, b in ((x, y), (y, x)):
            scores = {j: cosine(a[i], b[j]) / temperature for j in rows}
            log_sum = math.log(sum(math.exp(s) for s in scores.values()))
            total -= sum(target[j] * (scores[j] - log_sum) for j in rows)
    return total / len(rows)


def cosine(a, b):
    norms = a.norm() * b.norm()
    return float(a @ b / norms) if norms else 0.0


def slow_soft_label_loss(x, y, tags, t, labels, mask):
    kept = [i for i in range(len(x)) if mask[i]]
    normal = [i for i in kept if not tags[i].any()]
    total = 0.0
    for a, b in ((x, y), (y, x)):
        for i in kept:
            target, exponentials = {}, {}
            for j in kept:
                soft = labels.soft * cosine(tags[i].float(), tags[j].float())
                if labels.normals_alike and i in normal and j in normal:
                    soft = labels.soft
                if i != j and labels.batch_size is not None:
                    soft *= labels.batch_size / len(kept)
                if labels.normals_alike and i != j and i in normal and j in normal:
                    # All other normal ones together weigh as much as the own one at most.
                    soft = min(soft, (labels.hard + labels.soft) / (len(normal) - 1))
                target[j] = labels.hard * (i == j) + soft + 1e-6
                exponentials[j] = math.exp(cosine(a[i], b[j]) / t)
            target = {j: value / sum(target.values()) for j, value in target.items()}
            p = {j: value / sum(exponentials.values()) for j, value in exponentials.items()}
            forward = sum(target[j] * math.log(target[j] / p[j]) for j in kept)
            backward = sum(p[j] * math.log(p[j] / target[j]) for j in kept)
            chosen = {"forward": forward, "backward": backward, "symmetric": (forward + backward) / 2}
            total += chosen[labels.direction] / 2
    return total / max(1, len(kept))


def slow_region_loss(regions, sentences, aligned, comparable, t):
    def one_way(a, b, pair, compared):
        rows = []
        for i in range(len(a)):
            own = [j for j in range(len(b)) if pair[i, j]]
            others = [j for j in range(len(b)) if compared[i, j] and not pair[i, j]]
            costs = []
            for j in own:
                e = math.exp(cosine(a[i], b[j]) / t)
                costs.append(-math.log(e / (e + sum(math.exp(cosine(a[i], b[k]) / t) for k in others))))
            if own:
                rows.append(sum(costs) / len(costs))
        return sum(rows) / max(1, len(rows))

    return one_way(regions, sentences, aligned, comparable) + one_way(sentences, regions, aligned.T, comparable.T)


def slow_retrieval(similarity, truth, ks):
    images, texts = len(similarity), len(similarity[0])
    i2t = []
    for i in range(images):
        better = [j for j in range(texts) if j != truth[i] and similarity[i][j] >= similarity[i][truth[i]]]
        i2t.append(1 + len(better))
    t2i = []
    for j in range(texts):
        own = [i for i in range(images) if truth[i] == j]
        if own:
            best = max(similarity[i][j] for i in own)
            t2i.append(1 + sum(similarity[i][j] >= best for i in range(images) if i not in own))
    metrics = {}
    for name, ranks in (("i2t", i2t), ("t2i", t2i)):
        metrics |= {f"{name}_R@{k}": sum(rank <= k for rank in ranks) / len(ranks) for k in ks}
        metrics[f"{name}_median_rank"] = statistics.median(ranks)
    return metrics
