"""The algebra of one segment of chunks, forward and backward (README.md derives it)."""

# n chunks of the segment, G = B · H rows of heads, C tokens of a chunk, K key and E value dimensions of a head

from __future__ import annotations

import torch
from torch import Tensor

from deep_delta.ops.delta_rule.inverse import unit_lower_inverse
from deep_delta.ops.delta_rule.segment import Workspace, normalize_, normalize_backward_


class System:
    """The inputs of a segment as [n, G, C, ·], and the triangular matrices that they give.

    With D = diag(β): (I + tril(D K Kᵀ, −1)) U = D (V − K S), O = Q S + tril(Q Kᵀ) U, S' = S + Kᵀ U.
    """

    def __init__(
        self,
        inputs: tuple[Tensor, Tensor, Tensor, Tensor],
        chunk_size: int,
        normalize: bool,
        eps: float,
        fade: float,
        work: Workspace,
    ) -> None:
        """inputs: q, k [B, H, T, K], v [B, H, T, E] and beta [B, H, T] of the segment's tokens."""
        q, k, v, beta = inputs
        C = min(chunk_size, q.shape[2])
        self.work, self.eps, self.fade = work, eps, fade
        self.q, self.k = work.load("q", q, C), work.load("k", k, C)
        self.error = work.load("error", v, C)  # V, and V − K S once the state has passed
        self.beta = work.load("beta", beta.unsqueeze(-1), C)
        self.slopes = (normalize_(self.q, eps), normalize_(self.k, eps)) if normalize else None
        self.n, self.G = self.k.shape[:2]
        flat_k = self.k.flatten(0, 1)
        square = (self.n * self.G, C, C)
        self.overlap = torch.bmm(flat_k, flat_k.mT, out=work("overlap", *square)).tril_(-1)
        self.attention = torch.bmm(self.q.flatten(0, 1), flat_k.mT, out=work("attention", *square)).tril_()
        flat_beta = self.beta.flatten(0, 1)
        self.inverse = unit_lower_inverse(torch.mul(self.overlap, flat_beta, out=work("solve", *square)), work)
        self.solve = torch.mul(self.inverse, flat_beta.mT, out=work("solve", *square)).unflatten(0, (self.n, self.G))
        self.write = work("write", *self.error.shape)

    def scan(self, S: Tensor, scale: float) -> Tensor:
        """The outputs [n, G, C, E]; S [G, K, E] goes from the first state to the last in place."""
        o = self.work("o", *self.error.shape)
        chunks = (x.unbind(0) for x in (self.q, self.k, self.solve, self.error, self.write, o))
        for q_i, k_i, solve_i, error_i, write_i, o_i in zip(*chunks, strict=True):
            error_i.baddbmm_(k_i, S, alpha=-1)
            torch.bmm(solve_i, error_i, out=write_i)
            torch.bmm(q_i, S, out=o_i)
            S.baddbmm_(k_i.mT, write_i)
        o.flatten(0, 1).baddbmm_(self.attention, self.write.flatten(0, 1), beta=scale, alpha=scale)
        return o

    def states(self, S: Tensor) -> Tensor:
        """The state before each chunk, [n, G, K, E], from the first one [G, K, E]."""
        states = self.work("states", self.n, *S.shape)
        states[0] = S
        chunks = (x.unbind(0) for x in (states, self.k, self.solve, self.error, self.write))
        last = self.n - 1
        for i, (S_i, k_i, solve_i, error_i, write_i) in enumerate(zip(*chunks, strict=True)):
            error_i.baddbmm_(k_i, S_i, alpha=-1)
            torch.bmm(solve_i, error_i, out=write_i)
            if i < last:
                torch.baddbmm(S_i, k_i.mT, write_i, out=states[i + 1])
        return states

    def gradients(self, S: Tensor, grad_o: Tensor, grad_S: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradients of q, k, v and beta in chunks, from the state before the segment [G, K, E] and the gradient of
        the unscaled outputs [n, G, C, E].

        grad_S [G, K, E] goes from the gradient of the last state to that of the first in place.
        """
        work, q, k, error, write = self.work, self.q, self.k, self.error, self.write
        states = self.states(S)
        flat_q, flat_k, flat_write, flat_o, flat_beta = (x.flatten(0, 1) for x in (q, k, write, grad_o, self.beta))
        gated_k = torch.mul(k, self.beta, out=work("gated k", *k.shape))
        grad_k, grad_rhs = work("grad k", *k.shape), work("grad rhs", *write.shape)
        grad_write = torch.bmm(self.attention.mT, flat_o, out=work("grad write", *flat_write.shape)).view_as(write)
        inverse = self.inverse.unflatten(0, (self.n, self.G))
        chunks = (x.unbind(0) for x in (q, k, gated_k, inverse, write, grad_o, grad_write, grad_rhs, grad_k))
        for q_i, k_i, gated_i, inverse_i, write_i, o_i, grad_write_i, grad_rhs_i, grad_k_i in reversed(
            list(zip(*chunks, strict=True))
        ):
            grad_write_i.baddbmm_(k_i, grad_S)
            torch.bmm(inverse_i.mT, grad_write_i, out=grad_rhs_i)
            torch.bmm(write_i, grad_S.mT, out=grad_k_i)
            grad_S.baddbmm_(q_i.mT, o_i).baddbmm_(gated_i.mT, grad_rhs_i, alpha=-1)

        # What is no longer needed lends its memory: the attention, the system, the gated keys and grad_write.
        square = self.overlap.shape
        flat_rhs, flat_grad_k, before = grad_rhs.flatten(0, 1), grad_k.flatten(0, 1), states.flatten(0, 1).mT
        grad_system = torch.bmm(flat_rhs, flat_write.mT, out=work("attention", *square)).tril_(
            -1
        )  # with the other sign
        grad_beta = torch.mul(grad_rhs, error, out=grad_write).sum(-1, keepdim=True)
        grad_beta -= self.overlap.mul_(grad_system).sum(-1, keepdim=True).view_as(grad_beta)
        grad_v = grad_rhs.mul_(self.beta)
        grad_system.mul_(flat_beta)
        grad_overlap = torch.add(grad_system, grad_system.mT, out=self.overlap)
        grad_attention = torch.bmm(flat_o, flat_write.mT, out=work("solve", *square)).tril_()
        grad_q = torch.bmm(flat_o, before, out=gated_k.flatten(0, 1)).baddbmm_(grad_attention, flat_k).view_as(q)
        flat_grad_k.baddbmm_(flat_rhs, before, alpha=-1)
        flat_grad_k.baddbmm_(grad_attention.mT, flat_q).baddbmm_(grad_overlap, flat_k, alpha=-1)
        if self.slopes is not None:
            scratch = work("scratch", *q.shape)
            normalize_backward_(grad_q, q, self.slopes[0], self.eps, self.fade, scratch)
            normalize_backward_(grad_k, k, self.slopes[1], self.eps, self.fade, scratch)
        return grad_q, grad_k, grad_v, grad_beta
